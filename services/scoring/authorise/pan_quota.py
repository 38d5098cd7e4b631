"""How many card numbers a caller may have turned into tokens.

An answer holds the card's token, so whoever may send card numbers can learn which token is whose
(PCI DSS 4, 3.5.1.1). A bank knows its own cards; the quota bounds what a stolen token tells about
them, and the counter of what is refused says that somebody tries. Each worker process counts for
itself. Budget: 1 microsecond a row that brings a PAN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from fraudstream.errors import QuotaExceeded


@dataclass(slots=True)
class _Bucket:
    """What is left to a caller, and when that was so."""

    left: float
    at_s: float


class PanQuota:
    """A token bucket for each grant.

    Args:
        rate_per_s: Card numbers that a caller may bring each second, over time.
        burst: How many of them at once.
        clock_s: Seconds of a clock that never goes back.
    """

    def __init__(self, rate_per_s: float, burst: int, clock_s: Callable[[], float]) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._clock_s = clock_s
        # No more than the callers file has had names: only an operator adds one.
        self._buckets: dict[str, _Bucket] = {}

    def take(self, name: str) -> None:
        """Count one card number of a caller.

        Raises:
            QuotaExceeded: It has none left; the message says when it has one.
        """
        now_s = self._clock_s()
        bucket = self._buckets.setdefault(name, _Bucket(self._burst, now_s))
        refilled = bucket.left + (now_s - bucket.at_s) * self._rate_per_s
        bucket.left, bucket.at_s = min(self._burst, refilled), now_s
        if bucket.left < 1:
            wait_ms = ceil((1 - bucket.left) / self._rate_per_s * 1_000)
            msg = f"{name} brings more than {self._rate_per_s:g} card numbers a second"
            error = QuotaExceeded(f"{msg}: try again in {wait_ms} ms, or send card tokens")
            error.retry_after_ms = wait_ms
            raise error
        bucket.left -= 1
