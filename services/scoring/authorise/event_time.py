"""How much time a call at the gRPC door has, and until when each of its stages may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fraudstream.errors import DeadlineExceeded

# A call with less time left than this is rejected: its answer would be late.
_TOO_LATE_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """What is left of a call's deadline.

    Attributes:
        budget_s: For state, features and model; after it a stand-in decides.
        answer_s: For everything: what is not recorded then is answered as provisional.
    """

    budget_s: float
    answer_s: float


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How much time a call has.

    Attributes:
        default_s: Of a caller who set no deadline.
        reserve_s: Kept back to record a stand-in, and half of it for the answer's way.
    """

    default_s: float
    reserve_s: float

    def time_left(self, remaining_s: float | None) -> TimeLeft:
        """Return the time for each stage, of what the caller has left.

        Raises:
            DeadlineExceeded: The deadline is over, or as good as over.

        >>> Deadlines(default_s=1.0, reserve_s=0.25).time_left(None)
        TimeLeft(budget_s=0.75, answer_s=0.875)
        """
        left_s = self.default_s if remaining_s is None else min(remaining_s, self.default_s)
        if left_s < _TOO_LATE_S:
            msg = f"{max(left_s, 0) * 1000:.1f} ms were left on arrival"
            raise DeadlineExceeded(msg)
        return TimeLeft(max(left_s - self.reserve_s, 0.0), max(left_s - self.reserve_s / 2, 0.0))
