"""Ends the process when its stream stands still: a fresh one reads on where the markers stand."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

EXIT_TEMPORARY: Final = 75
_LOOK_S: Final = 1.0


def end_process(exit_code: int, message: str) -> None:
    """End the process at once: a crash leaves nothing behind that a fresh one would not mend."""
    logging.getLogger(__name__).critical("%s: the process ends (%d)", message, exit_code)
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
