"""The cardholders of the samples: cards beyond the live traffic, each with a month of plain habits.

Nothing of their past is drawn, so a sample finds the same kind of card at every start: groceries
every day, lunch every other day, now and then something online. The shops are those of the world
that the demo's seed makes. There are many holders, because a card that pays again within a minute
is another card to the model than one that pays once.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from fraudstream.v1 import transaction_pb2 as pb
from training.simulator.habits import DAY_MS, HOUR_MS, ROW, Rows
from training.simulator.world import Floats, Ints

# The live traffic's cards come before them.
FIRST_HOLDER: Final = 10_000
HOLDERS: Final = 500

_GERMANY: Final = 0  # of `training.simulator.world.REGIONS`
_UTC_OFFSET_MINUTES: Final = 60


class _Habit(NamedTuple):
    """Something that a holder pays: where, for what, how often and about how much."""

    merchant: int
    terminal: int
    mcc: int
    channel: int
    entry_mode: int
    every_d: int
    hour: float
    amount_minor: int


_HABITS: Final = (
    _Habit(30, 120, 5411, pb.CHANNEL_POS, pb.ENTRY_MODE_CHIP, 1, 17.6, 2_350),
    _Habit(46, 184, 5812, pb.CHANNEL_POS, pb.ENTRY_MODE_CONTACTLESS, 2, 12.4, 1_480),
    _Habit(21, 84, 5999, pb.CHANNEL_ECOMMERCE, pb.ENTRY_MODE_STORED, 5, 20.2, 3_900),
)


def holders_past(start_ms: int, days: int) -> Rows:
    """Return what the holders paid in so many days from a moment on, in time order."""
    parts = [
        _paid(card, habit, start_ms, days)
        for card in range(FIRST_HOLDER, FIRST_HOLDER + HOLDERS)
        for habit in _HABITS
    ]
    rows = np.concatenate(parts)
    return rows[np.argsort(rows["event_time_ms"], kind="stable")]


def _paid(card: int, habit: _Habit, start_ms: int, days: int) -> Rows:
    day = np.arange(0, days - 1, habit.every_d, dtype=np.int64)
    wobble = _wobble(day * 31 + card)
    rows = np.zeros(len(day), ROW)
    rows["event_time_ms"] = start_ms + day * DAY_MS + ((habit.hour + 2 * wobble) * HOUR_MS)
    rows["amount_reference_minor"] = habit.amount_minor * (1 + wobble)
    rows["card"], rows["merchant"], rows["terminal"] = card, habit.merchant, habit.terminal
    rows["mcc"], rows["region"] = habit.mcc, _GERMANY
    rows["utc_offset_minutes"] = _UTC_OFFSET_MINUTES
    rows["kind"] = pb.TRANSACTION_KIND_PURCHASE
    rows["channel"], rows["entry_mode"] = habit.channel, habit.entry_mode
    return rows


def _wobble(number: Ints) -> Floats:
    """Return numbers in [-0.4, 0.4) that look irregular, the same at every start."""
    return np.asarray((number * 0.618034) % 0.8 - 0.4, np.float64)
