"""Count every feature again, from all rows, in plain Python: what the kernel is held to.

Written from the definition of the features alone: imports neither kernel nor state nor catalogue.
Quadratic on purpose: a row looks at all rows before it. Entities and aggregations are asked for by
the catalogue's words in lower case, so that a test can walk whatever the catalogue holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.property.recount_card import CARD_FEATURES, UNUSUAL, CardView, life_before
from tests.property.recount_shared import LABEL_FEATURES, SHARED_FEATURES, SharedView
from tests.property.rows import NEVER, NONE, PURCHASE, STEPS, Row, f32, local_hour, seconds_between


class Recount:
    """All features of all rows of one history.

    What each row saw of its card is made once: an entity must know which purchases were unusual.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.cards: list[CardView] = []
        for position, row in enumerate(rows):
            life = life_before(rows, position)
            ratios = [self.cards[place].kept_ratio for place in life]
            self.cards.append(CardView(row, [rows[place] for place in life], ratios))
        self._shared: dict[tuple[int, str], SharedView] = {}

    def feature(self, position: int, entity: str, aggregation: str, window_h: int) -> float:
        """Return one feature of the row at `position`, NaN where it is missing.

        Args:
            position: The place of the row in the history.
            entity: `card`, `customer`, `terminal`, `merchant`, `device` or `ip`.
            aggregation: What is computed, in lower case: `count`, `fraud_run`.
            window_h: Hours of the window, 0 for none.
        """
        if entity == "card" and aggregation not in LABEL_FEATURES:
            return float(CARD_FEATURES[aggregation](self.cards[position], window_h))
        if getattr(self.rows[position], entity) == NONE:
            return math.nan
        features = LABEL_FEATURES if aggregation in LABEL_FEATURES else SHARED_FEATURES
        return float(features[aggregation](self.shared(position, entity), window_h))

    def shared(self, position: int, entity: str) -> SharedView:
        """Return what the row at `position` finds at its entity of a kind."""
        key = position, entity
        if key not in self._shared:
            self._shared[key] = self._look(position, entity)
        return self._shared[key]

    def _look(self, position: int, entity: str) -> SharedView:
        row = self.rows[position]
        here = [place for place in range(len(self.rows)) if self._is_at(place, position, entity)]
        labels = [
            (self.rows[place], change)
            for place in here
            for arrival_ms, change in changes_of(self.rows[place])
            if arrival_ms <= row.append_ms
        ]
        counted = [place for place in here if place < position and entity != "card"]
        purchases = [place for place in counted if self.rows[place].kind == PURCHASE]
        unusual = [place for place in purchases if self.cards[place].kept_ratio > UNUSUAL]
        return SharedView(
            row,
            [self.rows[place] for place in purchases],
            [self.rows[place] for place in unusual],
            labels,
        )

    def _is_at(self, place: int, position: int, entity: str) -> bool:
        return bool(getattr(self.rows[place], entity) == getattr(self.rows[position], entity))

    def sequence(self, position: int) -> list[list[float]]:
        """Return the sequence of the row at `position`: 32 steps of 6 channels, oldest first."""
        row = self.rows[position]
        steps = [
            [
                f32(other.amount),
                seconds_between(other.event_ms, row.event_ms),
                other.kind,
                other.channel,
                other.mcc,
                local_hour(other),
            ]
            for other in [*self.cards[position].before, row][-STEPS:]
        ]
        return [[0.0, -1.0, 0.0, 0.0, 0.0, 0.0]] * (STEPS - len(steps)) + steps


def changes_of(row: Row) -> list[tuple[int, int]]:
    """Return when a row's fraud count changed, and by how much: its label, then its flips."""
    return [] if row.label_ms == NEVER else [(row.label_ms, 1), *row.flips]


def recount_feature(
    rows: Sequence[Row], position: int, entity: str, aggregation: str, window_h: int
) -> float:
    """Return one feature of one row of a history; `Recount` gives many."""
    return Recount(rows).feature(position, entity, aggregation, window_h)


def recount_sequence(rows: Sequence[Row], position: int) -> list[list[float]]:
    """Return the sequence of the row at `position` of a history."""
    return Recount(rows).sequence(position)
