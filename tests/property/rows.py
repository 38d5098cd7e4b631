"""A row of a history, and the arithmetic that a recount does with rows.

Numbers are float64 unless they are rounded by `f32`; sums go from the oldest to the newest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
NOT_NEW_S = 30 * 86_400.0
STEPS = 32
PURCHASE = 1
NONE = -1
NEVER = -1


@dataclass(frozen=True, slots=True)
class Row:
    """One transaction of a history in arrival order.

    Entities are numbers, `NONE` for none; country `0` or `""` and MCC 0 are none; a row without a
    place has NaN there. `label_ms` is when its fraud label arrived, `NEVER` for none; `flips` are
    later changes of the label: arrival and -1 (it was genuine after all) or +1 (it was not).
    """

    card: int
    customer: int
    terminal: int
    merchant: int
    device: int
    ip: int
    country: str | int
    latitude: float
    longitude: float
    event_ms: int
    append_ms: int
    amount: int
    kind: int
    channel: int
    mcc: int
    utc_offset: int
    label_ms: int
    flips: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Level:
    """Buckets of one width: how many a state keeps, and how many of them a window takes."""

    width_ms: int
    size: int
    taken: int


def in_buckets(rows: Iterable[Row], level: Level, newest_ms: int, last: int) -> list[Row]:
    """Return the rows in the buckets of a window up to `last` that a state still holds."""
    first = max(last - level.taken, newest_ms // level.width_ms - level.size) + 1
    return [row for row in rows if first <= row.event_ms // level.width_ms <= last]


def f32(number: float) -> float:
    """Return a number rounded to float32."""
    return float(np.float32(number))


def ratio(part: float, whole: float) -> float:
    """Return `part / whole`, NaN where that says nothing."""
    return math.nan if whole == 0 or math.isnan(whole) else part / whole


def mean_of(numbers: Sequence[float]) -> float:
    """Return the mean, summed in the order given (`sum` may compensate); NaN for none."""
    total = 0.0
    for number in numbers:
        total += number
    return ratio(total, len(numbers))


def deviation_of(numbers: Sequence[float]) -> float:
    """Return the population standard deviation, NaN for fewer than two."""
    if len(numbers) < 2:
        return math.nan
    mean = mean_of(numbers)
    return math.sqrt(mean_of([(number - mean) * (number - mean) for number in numbers]))


def seconds_between(earlier_ms: float, later_ms: float) -> float:
    """Return the seconds from one time to another, 0 where that is negative; NaN stays."""
    seconds = (later_ms - earlier_ms) / 1000
    return seconds if math.isnan(seconds) else max(0.0, seconds)


def age_s(first_ms: float, now_ms: float) -> float:
    """Return the seconds since something was new: how new tells for a month. NaN stays."""
    seconds = seconds_between(first_ms, now_ms)
    return seconds if math.isnan(seconds) else min(seconds, NOT_NEW_S)


def local_hour(row: Row) -> float:
    """Return the hour of the local day, 0 to 24."""
    return (row.event_ms + row.utc_offset * MINUTE_MS) % DAY_MS / HOUR_MS


def is_night(row: Row) -> bool:
    """Return whether it was before seven, local time."""
    return local_hour(row) < 7


def is_weekend(row: Row) -> bool:
    """Return whether the local day is a Saturday or a Sunday; 3 January 1970 was a Saturday."""
    day = (row.event_ms + row.utc_offset * MINUTE_MS) // DAY_MS
    return (day - 2) % 7 < 2
