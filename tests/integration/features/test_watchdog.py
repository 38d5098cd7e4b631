"""The watchdog ends a process whose stream stands still, and leaves all others alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services.features.process.watchdog import EXIT_TEMPORARY

_WORKER = """
import threading
from itertools import count
from services.features.process.watchdog import Watchdog
moves = count()
Watchdog(0.5, lambda: {progress}, lambda: {has_lag}).start()
threading.Event().wait({lives_s})
"""


@pytest.mark.parametrize(
    ("progress", "has_lag", "lives_s", "expected"),
    [
        ("0", "True", 30, EXIT_TEMPORARY),
        ("0", "False", 3, 0),
        ("next(moves)", "True", 3, 0),
    ],
    ids=["lag and no progress", "no lag", "progress"],
)
def test_only_lag_without_progress_ends_the_process(
    progress: str, has_lag: str, lives_s: int, expected: int
) -> None:
    """Exit 75 asks for a restart; a quiet or a busy stream is not a dead one."""
    code = _WORKER.format(progress=progress, has_lag=has_lag, lives_s=lives_s)

    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)

    assert ended.returncode == expected
