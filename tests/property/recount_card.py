"""Count again what a row sees of its own card: from all the card's rows before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tests.property.rows import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NONE,
    PURCHASE,
    STEPS,
    Level,
    Row,
    age_s,
    deviation_of,
    f32,
    in_buckets,
    is_night,
    is_weekend,
    ratio,
    seconds_between,
)

EXPIRY_MS = 90 * DAY_MS
EARTH_KM = 6371.0
UNUSUAL = 3.0
MEMORY = 200
CARD_NOT_PRESENT = (2, 4, 5)  # ecommerce, moto, recurring


def card_level(window_h: int) -> Level:
    """Return the buckets of a card's window."""
    if window_h == 1:
        return Level(5 * MINUTE_MS, 12, 12)
    if window_h <= 24:
        return Level(HOUR_MS, 24, window_h)
    return Level(DAY_MS, 30, window_h // 24)


def usual_of(amounts: Sequence[int]) -> float:
    """Return the running mean of purchases, each counted as three times of it at most; 0 for none.

    It forgets: a purchase never weighs less than one of the last 200.
    """
    usual = 0.0
    for number, amount in enumerate(amounts, start=1):
        if usual == 0.0:
            usual = float(amount)
        else:
            usual += (min(float(amount), 3.0 * usual) - usual) / min(number, MEMORY)
    return usual


def has_place(row: Row) -> bool:
    """Return whether a row has coordinates."""
    return not (math.isnan(row.latitude) or math.isnan(row.longitude))


def km_between(one: Row, other: Row) -> float:
    """Return the great-circle distance of two rows by the haversine formula."""
    north, south = math.radians(f32(one.latitude)), math.radians(f32(other.latitude))
    turn = math.radians(f32(other.longitude)) - math.radians(f32(one.longitude))
    rise = math.sin((south - north) / 2) ** 2
    chord = rise + math.cos(north) * math.cos(south) * math.sin(turn / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, chord)))


def value_of(row: Row, field: str) -> str | int | None:
    """Return a row's terminal, country and so on; None where it has none."""
    value: str | int = getattr(row, field)
    none = {"mcc": (0,), "country": (0, "")}.get(field, (NONE,))
    return None if value in none else value


def life_before(rows: Sequence[Row], position: int) -> list[int]:
    """Return the places of the earlier rows of a row's card, since the card last began afresh."""
    life: list[int] = []
    for place, row in enumerate(rows[: position + 1]):
        if row.card != rows[position].card:
            continue
        if life and row.event_ms - max(rows[other].event_ms for other in life) > EXPIRY_MS:
            life = []
        life.append(place)
    return life[:-1]


@dataclass(frozen=True)
class CardView:
    """What a row sees of its card: the rows before it, oldest arrival first.

    `ratios` holds, for each row before, its ratio to the clipped mean as the ring keeps it.
    """

    row: Row
    before: list[Row]
    ratios: list[float]

    @cached_property
    def ring(self) -> list[Row]:
        """The last rows before the row, of any kind."""
        return self.before[-STEPS:]

    @cached_property
    def clipped_ratio(self) -> float:
        """The amount by the card's own level."""
        purchases = [row.amount for row in self.before if row.kind == PURCHASE]
        return ratio(self.row.amount, usual_of(purchases))

    @cached_property
    def kept_ratio(self) -> float:
        """What the ring will keep of the row: its ratio as float32, 0 for none."""
        has_ratio = self.row.kind == PURCHASE and not math.isnan(self.clipped_ratio)
        return f32(self.clipped_ratio) if has_ratio else 0.0

    def amounts(self, window_h: int, *, is_with_row: bool = True) -> list[int]:
        """Return the purchases' amounts in the window's buckets, of the row itself too or not."""
        rows = [*self.before, self.row] if is_with_row else self.before
        purchases = [row for row in rows if row.kind == PURCHASE]
        newest_ms = max((row.event_ms for row in purchases), default=0)
        level = card_level(window_h)
        last = self.row.event_ms // level.width_ms
        return [row.amount for row in in_buckets(purchases, level, newest_ms, last)]

    def mean_ratio(self, window_h: int) -> float:
        """Return how often the amount is the mean of the window before the row."""
        amounts = self.amounts(window_h, is_with_row=False)
        return ratio(self.row.amount, ratio(sum(amounts), len(amounts)))

    def recent(self, window_h: int) -> list[tuple[Row, float]]:
        """Return the ring's rows of the last hours, each with its kept ratio."""
        now_ms, window_ms = self.row.event_ms, window_h * HOUR_MS
        ring = zip(self.ring, self.ratios[-STEPS:], strict=True)
        return [seen for seen in ring if now_ms - window_ms < seen[0].event_ms <= now_ms]

    def spread(self, window_h: int) -> float:
        """Return the standard deviation of the recent purchases."""
        recent = [row for row, _ in self.recent(window_h) if row.kind == PURCHASE]
        return deviation_of([f32(row.amount) for row in recent])

    def distinct(self, field: str, window_h: int) -> int:
        """Count the different values of the recent rows and the row itself."""
        rows = [self.row, *(row for row, _ in self.recent(window_h))]
        return len({value_of(row, field) for row in rows} - {None})

    def is_new(self, field: str) -> float:
        """Return 1 if the ring does not have the row's value, 0 if it does, NaN for no value."""
        value = value_of(self.row, field)
        if value is None:
            return math.nan
        return float(value not in [value_of(row, field) for row in self.ring])

    def share(self, holds: Callable[[Row], bool]) -> float:
        """Return the share of the ring's rows for which something holds."""
        return ratio(sum(holds(row) for row in self.ring), len(self.ring))

    def travel(self) -> tuple[float, float]:
        """Return km and hours from the last row with a place to this one; NaN for none."""
        placed = [row for row in self.before if has_place(row)]
        if not placed or not has_place(self.row):
            return math.nan, math.nan
        apart_ms = max(abs(self.row.event_ms - placed[-1].event_ms), MINUTE_MS)
        return km_between(placed[-1], self.row), apart_ms / HOUR_MS

    def times_ms(self) -> list[float]:
        """Return the event times of the rows before, NaN where there are none."""
        return [row.event_ms for row in self.before] or [math.nan]

    def seconds_since_previous(self) -> float:
        """Return the seconds since the newest event of the card."""
        return seconds_between(max(self.times_ms()), self.row.event_ms)

    def seconds_since_first(self) -> float:
        """Return the seconds since the oldest event of the card."""
        return age_s(min(self.times_ms()), self.row.event_ms)


# Each takes the card as the row sees it, and the window in hours.
CARD_FEATURES: dict[str, Callable[[CardView, int], float]] = {
    "count": lambda card, hours: len(card.amounts(hours)),
    "sum": lambda card, hours: sum(card.amounts(hours)),
    "mean": lambda card, hours: ratio(sum(card.amounts(hours)), len(card.amounts(hours))),
    "max": lambda card, hours: max(map(f32, card.amounts(hours)), default=math.nan),
    "amount": lambda card, _: card.row.amount,
    "seconds_since_previous": lambda card, _: card.seconds_since_previous(),
    "seconds_since_first": lambda card, _: card.seconds_since_first(),
    "ratio_to_mean": lambda card, hours: card.mean_ratio(hours),
    "ratio_to_clipped_mean": lambda card, _: card.clipped_ratio,
    "std": lambda card, hours: card.spread(hours),
    "unusual_count": lambda card, hours: sum(kept > UNUSUAL for _, kept in card.recent(hours)),
    "largest_ratio": lambda card, hours: max((kept for _, kept in card.recent(hours)), default=0.0),
    "distinct_terminals": lambda card, hours: card.distinct("terminal", hours),
    "distinct_merchants": lambda card, hours: card.distinct("merchant", hours),
    "distinct_countries": lambda card, hours: card.distinct("country", hours),
    "distinct_mccs": lambda card, hours: card.distinct("mcc", hours),
    "distinct_devices": lambda card, hours: card.distinct("device", hours),
    "distinct_ips": lambda card, hours: card.distinct("ip", hours),
    "is_new_terminal": lambda card, _: card.is_new("terminal"),
    "is_new_merchant": lambda card, _: card.is_new("merchant"),
    "is_new_country": lambda card, _: card.is_new("country"),
    "is_new_mcc": lambda card, _: card.is_new("mcc"),
    "is_new_device": lambda card, _: card.is_new("device"),
    "is_new_ip": lambda card, _: card.is_new("ip"),
    "night_share": lambda card, _: card.share(is_night),
    "weekend_share": lambda card, _: card.share(is_weekend),
    "card_not_present_share": lambda card, _: card.share(lambda r: r.channel in CARD_NOT_PRESENT),
    "is_night": lambda card, _: is_night(card.row),
    "is_weekend": lambda card, _: is_weekend(card.row),
    "km_from_previous": lambda card, _: card.travel()[0],
    "speed_kmh": lambda card, _: ratio(*card.travel()),
}
