"""A warning that many rows would give at once: said every few seconds, with their number."""

from __future__ import annotations

import logging
import time
from typing import Final

_EVERY_S: Final = 5.0


class RareWarning:
    """Says of a fault that lasts what it is, and how many rows have met it since."""

    def __init__(self, log: logging.Logger, text: str) -> None:
        """Keep the text, which takes a number of rows and the fault."""
        self._log = log
        self._text = text
        self._rows = 0
        self._quiet_until_s = 0.0

    def say(self, rows: int, fault: Exception) -> None:
        """Say it, unless it was said a moment ago."""
        self._rows += rows
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            self._log.warning(self._text, self._rows, fault)
            self._rows, self._quiet_until_s = 0, now_s + _EVERY_S
