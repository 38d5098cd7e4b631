"""The time of now, as the wire writes it; passed on where a test sets its own."""

from __future__ import annotations

import time


def epoch_ms() -> int:
    """Return the time in epoch milliseconds.

    >>> epoch_ms() > 1_700_000_000_000
    True
    """
    return time.time_ns() // 1_000_000


def epoch_us() -> int:
    """Return the time in epoch microseconds.

    >>> epoch_us() > 1_700_000_000_000_000
    True
    """
    return time.time_ns() // 1_000
