"""Named points at which a test may end a process, to prove that a crash there loses nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

_NAME, _, _PASSAGE = os.environ.get("FRAUD_CRASH_AT", "").partition(":")
_LOG = os.environ.get("FRAUD_CRASH_LOG", "")
_passages = 0


def crash_point(name: str) -> None:
    """Kill this process here if `FRAUD_CRASH_AT` says so (`NAME:N`, at the N-th passage).

    The name is first appended to the file in `FRAUD_CRASH_LOG`, so a test can show where the
    crash landed. Costs one comparison where the variable is not set.
    """
    if not _NAME or name != _NAME:
        return
    _count_passage(name)


def _count_passage(name: str) -> None:
    global _passages  # noqa: PLW0603  # a process dies once: its count has no better home
    _passages += 1
    if _passages >= int(_PASSAGE or 1):
        if _LOG:
            with Path(_LOG).open("a") as log:
                log.write(f"{name}\n")
        os.kill(os.getpid(), signal.SIGKILL)
