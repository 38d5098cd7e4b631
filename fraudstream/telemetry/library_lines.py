"""What libraries log: bounded in number, and without what somebody outside wrote to them.

A web server's lines repeat paths and host names of requests, which nobody had to sign in for: they
may be anything, a card number too, and as many as somebody likes to send.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection
from typing import Final

from fraudstream.runtime.allowance import Allowance

# A card number's digits, whatever stands between them: up to three marks, letters too.
_DIGITS: Final = re.compile(r"\d(?:\D{0,3}\d){11,}")
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))
_LINES: Final = 20
_SERVER_FAULT: Final = 500


def mask_digits(text: str) -> str:
    """Return a text with each 12 or more digits that stand near each other starred out.

    >>> mask_digits("Not Found: /alerts/4000x0000x0000x0002")
    'Not Found: /alerts/****'
    """
    return _DIGITS.sub("****", text)


class LibraryLines(logging.Filter):
    """Lets at most 20 lines a minute of each library's logger through, told in our words.

    Args:
        ours: Roots of the loggers that are left alone.
        clock_s: Seconds.
    """

    def __init__(
        self, ours: Collection[str], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._ours = frozenset(ours)
        # Loggers are few: their names are the libraries'.
        self._allowance = Allowance(_LINES, clock_s)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written; one of a library is put into our words."""
        if record.name.partition(".")[0] in self._ours:
            return True
        left_out = self._allowance.take(record.name)
        if left_out is None:
            return False
        told = f"; {left_out} more were left out before" if left_out else ""
        record.msg, record.args = _words_of(record) + told, ()
        return True


def _words_of(record: logging.LogRecord) -> str:
    """Return what a library's record says; of a request, only what we know ourselves."""
    status = getattr(record, "status_code", None)
    request = getattr(record, "request", None)
    if request is None or not isinstance(status, int):
        return mask_digits(record.getMessage())
    if status < _SERVER_FAULT:  # a caller's fault needs no trace, and its text is the caller's
        record.exc_info = record.exc_text = None
    method = getattr(request, "method", None)
    route = getattr(getattr(request, "resolver_match", None), "route", None)
    named = method if method in _METHODS else "a request"
    return f"{named} of {'no page' if route is None else f'page /{route}'} was answered by {status}"
