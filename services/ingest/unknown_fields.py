"""What senders write and nobody reads: counted, and named in the log once a minute at most."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Final

from fraudstream.telemetry.metrics import INGEST_UNKNOWN_FIELDS

_LOG: Final = logging.getLogger(__name__)
_PAUSE_S: Final = 60.0
_NAMES_AT_MOST: Final = 20
# A name is the sender's text: what does not look like one may be anything, a card number too.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z_.-]{0,47}[0-9]{0,4}|field [0-9]{1,9}")


class UnknownFields:
    """Takes note of fields that the schema does not have.

    Args:
        clock_s: Seconds.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._names: set[str] = set()
        self._next_s = clock_s()

    def note(self, names: Sequence[str]) -> None:
        """Count the unknown fields of one record, and log their names when it is time."""
        INGEST_UNKNOWN_FIELDS.inc(len(names))
        for name in names:
            if len(self._names) < _NAMES_AT_MOST:
                self._names.add(name if _NAME.fullmatch(name) else "(no plain name)")
        now_s = self._clock_s()
        if now_s >= self._next_s:
            self._next_s = now_s + _PAUSE_S
            _LOG.warning("dropped fields that the schema does not have: %s", sorted(self._names))
            self._names.clear()
