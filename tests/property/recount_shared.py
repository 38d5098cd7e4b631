"""Count again what a row reads of a shared entity: closed buckets and settled labels only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from tests.property.rows import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Level,
    Row,
    age_s,
    in_buckets,
    ratio,
)

DAYS_KEPT = 40
SPEND_DAYS_KEPT = 32
LABEL_DELAY_D = 7
QUARTER_MS = DAY_MS // 4
QUARTERS_KEPT = 36
RUN_D = 30  # how far back a run of frauds is followed


def count_level(window_h: int) -> Level:
    """Return the buckets of a shared entity's count."""
    if window_h == 1:
        return Level(MINUTE_MS, 64, 60)
    if window_h <= 24:
        return Level(HOUR_MS, 26, window_h)
    return Level(DAY_MS, DAYS_KEPT, window_h // 24)


def spend_level(window_h: int) -> Level:
    """Return the buckets of a shared entity's spend, and of its mean."""
    return Level(DAY_MS, SPEND_DAYS_KEPT, window_h // 24)


@dataclass(frozen=True, slots=True)
class Settled:
    """A day, or a quarter of one: known frauds, purchases, and those of them that were unusual."""

    begin_ms: int
    end_ms: int
    frauds: int
    purchases: int
    unusual: int

    @property
    def unexplained(self) -> int:
        """The frauds that are not just a card leaving its own level."""
        return max(0, self.frauds - self.unusual)


@dataclass(frozen=True)
class SharedView:
    """What a row finds at an entity: purchases that came before it, labels that had arrived.

    `labels` holds the labelled row and the change, +1 or -1; an entity that keeps labels only has
    no purchases.
    """

    row: Row
    purchases: list[Row]
    unusual: list[Row]
    labels: list[tuple[Row, int]]

    @cached_property
    def newest_ms(self) -> int:
        """The newest event time that the entity has seen, which all its levels end at."""
        seen = [*self.purchases, *(row for row, _ in self.labels)]
        return max((row.event_ms for row in seen), default=0)

    def closed(self, level: Level) -> list[Row]:
        """Return the purchases in the buckets before the row's own."""
        last = self.row.event_ms // level.width_ms - 1
        return in_buckets(self.purchases, level, self.newest_ms, last)

    def spend(self, window_h: int) -> int:
        """Return the spend on the days before the row's day."""
        return sum(row.amount for row in self.closed(spend_level(window_h)))

    def mean(self, window_h: int) -> float:
        """Return the mean purchase of the days whose spend is known, NaN for none."""
        return ratio(self.spend(window_h), len(self.closed(spend_level(window_h))))

    def seconds_since_first(self) -> float:
        """Return the age of the entity, NaN until its first purchase's minute is closed."""
        first_ms = min((row.event_ms for row in self.purchases), default=math.inf)
        if first_ms >= self.row.event_ms // MINUTE_MS * MINUTE_MS:
            return math.nan
        return age_s(first_ms, self.row.event_ms)

    @property
    def settled_until_ms(self) -> int:
        """The end of the newest quarter of a day whose labels a row may read."""
        return (self.row.event_ms // QUARTER_MS) * QUARTER_MS - LABEL_DELAY_D * DAY_MS

    def settled(self, days: int) -> list[Settled]:
        """Return the last settled days, then quarters, that are still held, oldest first."""
        today_ms = self.settled_until_ms // DAY_MS * DAY_MS
        first_ms = (self.newest_ms // DAY_MS - DAYS_KEPT + 1) * DAY_MS
        first_ms = max(today_ms - days * DAY_MS, first_ms)
        whole = [self.span(at, DAY_MS) for at in range(first_ms, today_ms, DAY_MS)]
        kept_ms = (self.newest_ms // QUARTER_MS - QUARTERS_KEPT + 1) * QUARTER_MS
        begins = range(today_ms, self.settled_until_ms, QUARTER_MS)
        return whole + [self.span(at, QUARTER_MS) for at in begins if at >= kept_ms]

    def span(self, begin_ms: int, width_ms: int) -> Settled:
        """Return what is known of a day or a quarter."""
        end_ms = begin_ms + width_ms

        def inside(row: Row) -> bool:
            return begin_ms <= row.event_ms < end_ms

        frauds = sum(change for row, change in self.labels if inside(row))
        purchases, unusual = sum(map(inside, self.purchases)), sum(map(inside, self.unusual))
        return Settled(begin_ms, end_ms, frauds, purchases, unusual)

    def fraud_count(self, days: int) -> int:
        """Return the known frauds of the last settled days."""
        return sum(day.frauds for day in self.settled(days))

    def fraud_share(self, days: int) -> float:
        """Return the frauds by the purchases of the same days, at most 1; 0 for no purchases."""
        purchases = sum(day.purchases for day in self.settled(days))
        return 0.0 if purchases == 0 else min(1.0, self.fraud_count(days) / purchases)

    def unexplained(self, days: int) -> int:
        """Return the frauds beyond the unusual purchases, day by day."""
        return sum(day.unexplained for day in self.settled(days))

    def last_genuine(self) -> Settled | None:
        """Return the newest day or quarter with more purchases than frauds."""
        spans = [span for span in self.settled(RUN_D) if span.purchases > span.frauds]
        return spans[-1] if spans else None

    def days_since_genuine(self) -> float:
        """Return the settled days since one with more purchases than frauds, NaN for none."""
        genuine = self.last_genuine()
        return math.nan if genuine is None else (self.settled_until_ms - genuine.end_ms) / DAY_MS

    def run(self) -> list[Settled]:
        """Return what has unexplained frauds after the last genuine day or quarter."""
        genuine = self.last_genuine()
        spans = self.settled(RUN_D)
        after = [span for span in spans if genuine is None or span.begin_ms >= genuine.end_ms]
        return [span for span in after if span.unexplained]

    def fraud_run_days(self) -> float:
        """Return how many settled days ago the run began, that day included; 0 for no run."""
        run = self.run()
        return (self.settled_until_ms - run[0].begin_ms) / DAY_MS if run else 0.0


# Each takes the entity as the row sees it, and the window in hours.
SHARED_FEATURES: dict[str, Callable[[SharedView, int], float]] = {
    "count": lambda entity, hours: len(entity.closed(count_level(hours))),
    "sum": lambda entity, hours: entity.spend(hours),
    "mean": lambda entity, hours: entity.mean(hours),
    "ratio_to_mean": lambda entity, hours: ratio(entity.row.amount, entity.mean(hours)),
    "seconds_since_first": lambda entity, _: entity.seconds_since_first(),
}

# The same of what an entity's labels say; a card has these too.
LABEL_FEATURES: dict[str, Callable[[SharedView, int], float]] = {
    "fraud_count": lambda entity, hours: entity.fraud_count(hours // 24),
    "fraud_share": lambda entity, hours: entity.fraud_share(hours // 24),
    "unexplained_fraud_count": lambda entity, hours: entity.unexplained(hours // 24),
    "days_since_genuine": lambda entity, _: entity.days_since_genuine(),
    "fraud_run": lambda entity, _: sum(day.unexplained for day in entity.run()),
    "fraud_run_days": lambda entity, _: entity.fraud_run_days(),
}
