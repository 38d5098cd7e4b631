"""How often a process tells of what may come in floods: so many of a kind in a minute.

A batch of 40 kB may hold 100,000 records that nobody signed, and a door takes thousands of calls
that it refuses. What is not told is counted, and stands in the next line of its kind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Final

MOST_TOLD: Final = 1_000
"""Records of one kind in a minute of which a process tells."""
_MINUTE_S: Final = 60.0


class Allowance:
    """Counts what is told of each kind in each minute. From any thread.

    Args:
        most: Of one kind in a minute.
        clock_s: Seconds; never goes back.
    """

    def __init__(self, most: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock_s = clock_s
        self._lock = Lock()
        # Begin of each kind's minute, and how many there were in it.
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def take(self, kind: Hashable) -> int | None:
        """Return how many of a kind were left out since the last told one; None to leave this out.

        >>> allowance = Allowance(1)
        >>> allowance.take("a"), allowance.take("a"), allowance.take("b")
        (0, None, 0)
        """
        now_s = self._clock_s()
        with self._lock:
            begun_s, seen = self._seen.get(kind, (now_s, 0))
            left_out = 0
            if now_s - begun_s >= _MINUTE_S:
                left_out, begun_s, seen = max(0, seen - self._most), now_s, 0
            self._seen[kind] = begun_s, seen + 1
            return left_out if seen < self._most else None

    def has_room(self, kind: Hashable, most_kinds: int) -> bool:
        """Return whether a kind is among so many that are told apart; those of past minutes go."""
        now_s = self._clock_s()
        with self._lock:
            if kind not in self._seen and len(self._seen) >= most_kinds:
                self._seen = {
                    known: (begun_s, seen)
                    for known, (begun_s, seen) in self._seen.items()
                    if now_s - begun_s < _MINUTE_S
                }
            return kind in self._seen or len(self._seen) < most_kinds
