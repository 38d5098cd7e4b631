"""The time of an event: how far it may be from when the log took it, and what is wrong with one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fraudstream.reject_reasons import RejectReason
from fraudstream.transaction.limits import TIMES_MS

# The longest lateness bound that may be set. A late copy must still meet the decision record of its
# first one, after the longest tolerated outage too (`shard_store.OUTAGE_LONGEST_S`).
LATENESS_LONGEST_MS: Final = 24 * 3_600_000
# The longest that an event may be set to be taken ahead of its append time.
FUTURE_LONGEST_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """How far event time may be from append time.

    Attributes:
        lateness_ms: Older ones are late: archived, not decided.
        future_ms: Younger ones are refused; clocks differ a little.
    """

    lateness_ms: int = LATENESS_LONGEST_MS
    future_ms: int = 5 * 60_000


USUAL_BOUNDS: Final = TimeBounds()
"""Those of an installation that sets none."""


def is_epoch_ms(moment: int) -> bool:
    """Return whether a number can be a time of this century in epoch milliseconds.

    >>> is_epoch_ms(1_700_000_000_000), is_epoch_ms(1_700_000_000)
    (True, False)
    """
    return moment in TIMES_MS


def expected_ms(moment: int) -> str:
    """Return what is wrong with a number that is no time in epoch milliseconds.

    >>> expected_ms(1_700_000_000)
    'looks like seconds; expected epoch milliseconds'
    """
    units = {
        "seconds": moment * 1_000,
        "microseconds": moment // 1_000,
        "nanoseconds": moment // 1_000_000,
    }
    unit = next((name for name, time_ms in units.items() if is_epoch_ms(time_ms)), None)
    found = f"looks like {unit}" if unit else "is missing or not between the years 2000 and 2100"
    return f"{found}; expected epoch milliseconds"


def fault_of_time(
    event_time_ms: int, append_time_ms: int, bounds: TimeBounds
) -> RejectReason | None:
    """Return why an event time cannot be right, None where it can; a late one can.

    >>> fault_of_time(1_700_000_360_000, 1_700_000_000_000, TimeBounds()).value
    'TIME_FUTURE'
    """
    if event_time_ms not in TIMES_MS:
        return RejectReason.TIME_INVALID
    is_future = event_time_ms > append_time_ms + bounds.future_ms
    return RejectReason.TIME_FUTURE if is_future else None


def text_of_time(fault: RejectReason, event_time_ms: int) -> str:
    """Return what to tell the sender about a fault of `fault_of_time`.

    >>> text_of_time(RejectReason.TIME_INVALID, 1_700_000_000)
    'event_time_ms looks like seconds; expected epoch milliseconds'
    """
    is_unit = fault is RejectReason.TIME_INVALID
    return f"event_time_ms {expected_ms(event_time_ms)}" if is_unit else fault.text
