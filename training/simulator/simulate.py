"""Seeded card traffic with six kinds of fraudster: a history to learn from, and live traffic."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.v1.transaction_pb2 import Transaction
from training.simulator.fraudsters import (
    FraudKind,
    Scene,
    campaign_rows,
    draw_kind,
    planned_campaigns,
    rows_per_campaign,
)
from training.simulator.habits import (
    DAY_MS,
    ROW,
    Rows,
    draw_days,
    genuine_rows,
    habitual_times,
    with_company,
)
from training.simulator.messages import transaction_of
from training.simulator.world import REGIONS, Ints, World

# A later day than the Handbook's, a Monday: nothing depends on it but the calendar.
DEFAULT_START_MS: Final = 1_767_571_200_000  # 2026-01-05T00:00:00Z
_LIVE_CHUNK: Final = 256
_LIVE_CAMPAIGN_ROWS: Final = (
    15  # more would make a live scheme rare, and others invisible beside it
)
_COMPANY: Final = 1.15  # transactions for each one that is planned: trips, refunds and the like


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """What to simulate. The same settings give the same traffic, on every machine.

    Attributes:
        seed: Everything is drawn from it.
        cards: Size of the population; card numbers are 0..cards-1.
        days: Length of a history; live traffic has no end.
        start_ms: Epoch milliseconds of the first moment.
        merchants: Number of merchants; 0 for one to five cards, at least 300.
        fraud_share: Share of fraudulent transactions.
        rate_per_s: Live only: transactions per second, over the whole population.
        longest_gap_ms: Live only: gaps inside a campaign are cut to it, so that a minute of
            traffic shows whole campaigns.
    """

    seed: int = 1
    cards: int = 2_000
    days: int = 60
    start_ms: int = DEFAULT_START_MS
    merchants: int = 0
    fraud_share: float = 0.008
    rate_per_s: float = 50.0
    longest_gap_ms: int = 20_000

    def world(self) -> World:
        """Return the world of these settings."""
        return World(self.seed, self.merchants or max(300, self.cards // 5))


@dataclass(frozen=True)
class Simulated:
    """A simulated history in event-time order; text ids are derived from the numbers.

    Attributes:
        settings: What it was made from.
        rows: `training.simulator.habits.ROW` records.
        label_arrival_ms: int64 [N]; when a fraud's label arrived, -1 for a genuine row.
    """

    settings: SimulationSettings
    rows: Rows
    label_arrival_ms: Ints

    def __len__(self) -> int:
        """Return the number of transactions."""
        return len(self.rows)

    @property
    def is_fraud(self) -> NDArray[np.bool_]:
        """Which rows are fraudulent."""
        return np.asarray(self.rows["fraud_kind"] != FraudKind.GENUINE)

    def transaction(self, row: int) -> Transaction:
        """Return one row as the message that a bank would send, PAN included."""
        return transaction_of(self.rows[row], self.settings.seed, row)


@dataclass(frozen=True, slots=True)
class SimulatedTransaction:
    """One live transaction and what the detector is not told about it."""

    transaction: Transaction
    is_fraud: bool
    fraud_kind: FraudKind


def simulate(settings: SimulationSettings) -> Simulated:
    """Return a whole history in event-time order."""
    rng = np.random.default_rng((settings.seed, 1))
    world = settings.world()
    rows = np.concatenate([_genuine(rng, world, settings), _fraud(rng, world, settings)])
    until_ms = settings.start_ms + settings.days * DAY_MS
    issued_ms = settings.start_ms + world.issued_share(rows["card"]) * settings.days * DAY_MS
    rows = rows[(rows["event_time_ms"] >= issued_ms) & (rows["event_time_ms"] < until_ms)]
    rows = rows[np.argsort(rows["event_time_ms"], kind="stable")]
    delay = np.exp(rng.normal(np.log(5.0), 0.7, len(rows))).clip(0.5, 25.0) * DAY_MS
    is_fraud = rows["fraud_kind"] != FraudKind.GENUINE
    arrival = np.where(is_fraud, rows["event_time_ms"] + delay.astype(np.int64), -1)
    return Simulated(settings, rows, arrival)


def _genuine(rng: np.random.Generator, world: World, settings: SimulationSettings) -> Rows:
    number = np.arange(settings.cards, dtype=np.int64)
    times = rng.poisson(world.cards(number).per_day * settings.days)
    card = np.repeat(number, times)
    first_day = settings.start_ms // DAY_MS
    day = draw_days(rng, len(card), first_day, settings.days)
    local_ms = habitual_times(rng, world, card, 0) + day * DAY_MS
    offset = np.array([region.utc_offset_minutes for region in REGIONS])
    time_ms = local_ms - offset[world.cards(card).region] * 60_000
    return with_company(rng, world, genuine_rows(rng, world, card, time_ms))


def _fraud(rng: np.random.Generator, world: World, settings: SimulationSettings) -> Rows:
    lead_in_ms = 10 * DAY_MS  # campaigns that run when the history begins
    span_ms = settings.days * DAY_MS + lead_in_ms
    expected = _COMPANY * _per_day(world, settings.cards) * span_ms / DAY_MS
    plans = planned_campaigns(rng, settings.fraud_share * expected, span_ms)
    first_ms = settings.start_ms - lead_in_ms
    parts = [
        campaign_rows(
            rng, Scene(world, settings.cards, first_ms + plan.start_ms), plan.kind, device
        )
        for device, plan in enumerate(plans, start=1)
    ]
    return np.concatenate(parts)


def _per_day(world: World, cards: int) -> float:
    return float(world.cards(np.arange(cards, dtype=np.int64)).per_day.sum())


def live_traffic(settings: SimulationSettings) -> Iterator[SimulatedTransaction]:
    """Yield transactions without end, in event-time order from `settings.start_ms` on.

    The caller sends each when its clock reaches `transaction.event_time_ms`, or stamps its own.
    Cards and merchants are those of `simulate` with the same seed and numbers, so a history of
    the same population may be loaded first.
    """
    numbers = count()
    for row in _live_rows(settings):
        kind = FraudKind(int(row["fraud_kind"]))
        message = transaction_of(row, settings.seed + settings.start_ms, next(numbers))
        yield SimulatedTransaction(message, kind is not FraudKind.GENUINE, kind)


def _live_rows(settings: SimulationSettings) -> Iterator[np.void]:
    rng = np.random.default_rng((settings.seed, 2, settings.start_ms))
    world = settings.world()
    waiting: list[tuple[int, int, np.void]] = []
    order = count()
    now_ms = float(settings.start_ms)
    # Campaigns that run already when the caller begins to listen.
    earlier_ms = now_ms - _LIVE_CAMPAIGN_ROWS * settings.longest_gap_ms
    for row in np.concatenate(_live_campaigns(rng, world, settings, (earlier_ms, now_ms))):
        if row["event_time_ms"] >= now_ms:
            heapq.heappush(waiting, (int(row["event_time_ms"]), next(order), row))
    while True:
        until_ms = now_ms + _LIVE_CHUNK / settings.rate_per_s * 1_000
        parts = _live_campaigns(rng, world, settings, (now_ms, until_ms))
        card = rng.integers(0, settings.cards, _LIVE_CHUNK)
        time_ms = np.sort(rng.uniform(now_ms, until_ms, _LIVE_CHUNK)).astype(np.int64)
        parts.append(genuine_rows(rng, world, card, time_ms))
        for row in np.concatenate(parts):
            heapq.heappush(waiting, (int(row["event_time_ms"]), next(order), row))
        while waiting and waiting[0][0] < until_ms:
            yield heapq.heappop(waiting)[2]
        now_ms = until_ms


def _live_campaigns(
    rng: np.random.Generator,
    world: World,
    settings: SimulationSettings,
    span_ms: tuple[float, float],
) -> list[Rows]:
    """Return the campaigns that begin in a span of time, hurried to `longest_gap_ms`."""
    rows_due = settings.fraud_share * settings.rate_per_s * (span_ms[1] - span_ms[0]) / 1_000
    parts = [np.zeros(0, ROW)]
    for _ in range(rng.poisson(rows_due / rows_per_campaign(_LIVE_CAMPAIGN_ROWS))):
        start_ms = int(rng.uniform(*span_ms))
        device = int(rng.integers(1, 2**31))
        scene = Scene(world, settings.cards, start_ms)
        kind = draw_kind(rng, _LIVE_CAMPAIGN_ROWS)
        rows = campaign_rows(rng, scene, kind, device)[:_LIVE_CAMPAIGN_ROWS]
        gaps = np.diff(rows["event_time_ms"], prepend=rows["event_time_ms"][0])
        slack = rng.uniform(0.3, 1.0, len(rows)) * settings.longest_gap_ms
        rows["event_time_ms"] = start_ms + np.cumsum(np.minimum(gaps, slack)).astype(np.int64)
        parts.append(rows)
    return parts
