"""Ends the process when its stream stands still, or its topics are not as it found them.

A fresh one reads on where the markers stand.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from fraudstream.broker.topics_at_start import LOOK_S, TopicsAtStart
from fraudstream.errors import BrokerUnavailable, LogReplaced

EXIT_TEMPORARY: Final = 75
_LOOK_S: Final = 1.0

_LOG: Final = logging.getLogger(__name__)


def end_process(exit_code: int, message: str) -> None:
    """End the process at once: whatever a crash leaves behind, a fresh one puts right."""
    _LOG.critical("%s: the process ends (%d)", message, exit_code)
    os._exit(exit_code)


class Watchdog:
    """Watches, from a thread of its own, that a lagging stream makes progress.

    Args:
        limit_s: Lag without progress for so long ends the process.
        progress: A number that changes whenever something was finished.
        has_lag: Whether records wait.
    """

    def __init__(
        self, limit_s: float, progress: Callable[[], int], has_lag: Callable[[], bool]
    ) -> None:
        self._limit_s = limit_s
        self._progress = progress
        self._has_lag = has_lag
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _watch(self) -> None:
        seen, since = self._progress(), time.monotonic()
        while not self._ended.wait(_LOOK_S):
            now = self._progress()
            if now != seen or not self._has_lag():
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > self._limit_s:
                end_process(EXIT_TEMPORARY, f"lag and no progress for {self._limit_s:g} s")


def watch_topics(topics: TopicsAtStart, end: Callable[[int, str], None]) -> None:
    """Look now and then, from a thread of its own.

    Args:
        topics: The topics, as they were at the start.
        end: Ends the process with an exit code, because of what the message says.
    """

    def watch() -> None:
        never = threading.Event()
        while not never.wait(LOOK_S):
            try:
                topics.refuse_changes()
            except BrokerUnavailable as exc:
                _LOG.info("%s", exc)
            except LogReplaced as exc:
                end(EXIT_TEMPORARY, str(exc))

    threading.Thread(target=watch, name="log watch", daemon=True).start()
