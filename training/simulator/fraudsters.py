"""Six schemes of card fraud. Each makes the rows of one campaign of one fraudster.

None is visible by its amount alone: testers pay little, slow spenders pay what the cardholder
would, and genuine traffic has its own bursts, journeys and big purchases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np

from fraudstream.v1 import transaction_pb2 as pb
from training.simulator.habits import DAY_MS, HOUR_MS, Rows, price, rows_at
from training.simulator.world import ATM_MCC, KINDS, ONLINE_REGION, Ints, World

_RESALE: Final = frozenset((5732, 5947, 5944, 5722, 4511))
_MINUTE_MS: Final = 60_000
_CONTACTLESS_LIMIT_MINOR: Final = 5_000


class FraudKind(IntEnum):
    """The scheme that a fraudulent transaction belongs to; 0 for a genuine one."""

    GENUINE = 0
    CARD_TESTING = 1
    COMPROMISED_TERMINAL = 2
    ACCOUNT_TAKEOVER = 3
    SLOW_SPENDER = 4
    MERCHANT_COLLUSION = 5
    STOLEN_CARD = 6


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a campaign happens: the world, its cards 0..cards-1, and when it begins."""

    world: World
    cards: int
    start_ms: int


class Plan(NamedTuple):
    """A campaign to come: its scheme, and its start in ms from the beginning of the span."""

    kind: FraudKind
    start_ms: int


def campaign_rows(rng: np.random.Generator, scene: Scene, kind: FraudKind, device: int) -> Rows:
    """Return the rows of one campaign, in time order; `device` is the fraudster's own."""
    rows = _SCHEMES[kind](rng, scene)
    rows["fraud_kind"] = kind
    rows["device"] = np.where(_is_remote(rows), device, 0)
    return rows[np.argsort(rows["event_time_ms"], kind="stable")]


def draw_kind(rng: np.random.Generator, longest: int) -> FraudKind:
    """Return the next scheme, so that each has its share of the rows; see `rows_per_campaign`."""
    weights = np.array([_per_row(kind, longest) for kind in _SCHEMES])
    return list(_SCHEMES)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def planned_campaigns(rng: np.random.Generator, rows: float, span_ms: int) -> list[Plan]:
    """Return kinds and starts (ms into the span) of campaigns that make about so many rows.

    Each scheme is spread evenly over the span, so a small population has all of them throughout.
    """
    plans = []
    for kind in _SCHEMES:
        campaigns = max(1, round(rows * _ROW_SHARE[kind] / _ROWS_PER_CAMPAIGN[kind]))
        begins = (np.arange(campaigns) + rng.random(campaigns)) / campaigns
        plans += [Plan(kind, int(begin * span_ms)) for begin in begins]
    return plans


def rows_per_campaign(longest: int) -> float:
    """Return how many rows a campaign has on average, none having more than `longest`."""
    return 1.0 / sum(_per_row(kind, longest) for kind in _SCHEMES)


def _per_row(kind: FraudKind, longest: int) -> float:
    return _ROW_SHARE[kind] / min(_ROWS_PER_CAMPAIGN[kind], longest)


def _is_remote(rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.isin(rows["channel"], (pb.CHANNEL_ECOMMERCE, pb.CHANNEL_MOTO, pb.CHANNEL_RECURRING))


def _victim(
    rng: np.random.Generator, scene: Scene, count: int = 1, region: int | None = None
) -> Ints:
    """Draw cards, of people who live in a region if one is given; busy ones are seen more often."""
    pool = rng.integers(0, scene.cards, 4 * count)
    if region is not None:
        everybody = np.arange(scene.cards, dtype=np.int64)
        local = np.flatnonzero(scene.world.cards(everybody).region == region)
        pool = rng.choice(local, 4 * count) if len(local) else pool
    busy = scene.world.cards(pool).per_day
    return rng.choice(pool, count, p=busy / busy.sum(), replace=count > 1)


def _times(rng: np.random.Generator, scene: Scene, count: int, gap_ms: float) -> Ints:
    """Return times from the scene's start, with exponential gaps."""
    gaps = rng.exponential(gap_ms, count)
    gaps[0] = 0
    return (scene.start_ms + np.cumsum(gaps)).astype(np.int64)


def _merchants_of(world: World, mccs: frozenset[int]) -> Ints:
    wanted = np.array([kind.mcc in mccs for kind in KINDS])
    found = np.flatnonzero(wanted[world.kind_of_merchant])
    return found if len(found) else np.arange(world.merchants)


def _online(rng: np.random.Generator, scene: Scene, count: int) -> Ints:
    region = np.full(count, ONLINE_REGION)
    return scene.world.visit(region, rng.random(count))


def _rows(rng: np.random.Generator, scene: Scene, card: Ints, merchant: Ints, time: Ints) -> Rows:
    rows = rows_at(scene.world, card, merchant, time, rng.integers(0, 12, len(card)))
    rows["amount_reference_minor"] = price(rng, scene.world, card, merchant)
    remote = _is_remote(rows)
    rows["entry_mode"] = np.where(remote, pb.ENTRY_MODE_MANUAL, pb.ENTRY_MODE_CHIP)
    return rows


def _scale(rows: Rows, factor: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    amount = rows["amount_reference_minor"] * factor
    rows["amount_reference_minor"] = np.clip(amount, 50, 2_500_000)


def _card_testing(rng: np.random.Generator, scene: Scene) -> Rows:
    """Small sums at one or two shops within minutes, then big ones on goods to sell."""
    tests, hits = int(rng.integers(3, 9)), int(rng.integers(2, 6))
    card = np.repeat(_victim(rng, scene), tests + hits)
    time = _times(rng, scene, tests + hits, 45_000)
    time[tests:] += int(np.exp(rng.normal(2.8, 1.0)) * _MINUTE_MS)
    shop = rng.choice(_online(rng, scene, 2), tests)
    rows = _rows(
        rng,
        scene,
        card,
        np.concatenate([shop, rng.choice(_merchants_of(scene.world, _RESALE), hits)]),
        time,
    )
    small = rows[:tests]
    small["amount_reference_minor"] = rng.integers(50, 1_500, tests)
    checks = rng.random(tests) < 0.3
    small["kind"][checks] = pb.TRANSACTION_KIND_VERIFICATION
    small["amount_reference_minor"][checks] = 0
    _scale(rows[tests:], rng.uniform(1.0, 4.0, hits))
    return rows


def _compromised_terminal(rng: np.random.Generator, scene: Scene) -> Rows:
    """A terminal that copies cards: for weeks a part of what it sends is not the cardholders'."""
    count = int(rng.integers(60, 141))
    merchant = rng.choice(np.flatnonzero(~scene.world.is_online), 1)
    days = float(rng.uniform(20, 35))
    card = _victim(rng, scene, count, int(scene.world.region_of_merchant[merchant[0]]))
    time = scene.start_ms + np.sort(rng.uniform(0, days * DAY_MS, count)).astype(np.int64)
    rows = _rows(rng, scene, card, np.repeat(merchant, count), time)
    rows["terminal"] = rows["terminal"][0]
    rows["entry_mode"] = np.where(
        rng.random(count) < 0.3, pb.ENTRY_MODE_MAGSTRIPE, pb.ENTRY_MODE_CHIP
    )
    _scale(rows, rng.uniform(1.2, 3.5, count))
    return rows


def _account_takeover(rng: np.random.Generator, scene: Scene) -> Rows:
    """A new device, and some days of dear purchases online, mostly at night."""
    count = int(rng.integers(4, 13))
    card = np.repeat(_victim(rng, scene), count)
    dear = rng.choice(_merchants_of(scene.world, _RESALE | {5999, 7995}), count)
    merchant = np.where(rng.random(count) < 0.7, dear, _online(rng, scene, count))
    rows = _rows(rng, scene, card, merchant, _times(rng, scene, count, 1.2 * HOUR_MS))
    _scale(rows, np.exp(rng.normal(0.9, 0.4, count)))
    return rows


def _slow_spender(rng: np.random.Generator, scene: Scene) -> Rows:
    """One or two purchases a day, just above the card's own level, for one or two weeks."""
    count = int(rng.integers(5, 13))
    card = np.repeat(_victim(rng, scene), count)
    merchant = rng.choice(_online(rng, scene, 4), count)
    rows = _rows(rng, scene, card, merchant, _times(rng, scene, count, 0.5 * DAY_MS))
    _scale(rows, np.exp(rng.normal(0.7, 0.3, count)))
    return rows


def _merchant_collusion(rng: np.random.Generator, scene: Scene) -> Rows:
    """A shop that charges stolen cards a few fixed prices, within days."""
    count = int(rng.integers(25, 61))
    merchant = np.repeat(rng.choice(np.flatnonzero(scene.world.is_online), 1), count)
    time = scene.start_ms + np.sort(rng.exponential(0.3 * DAY_MS, count)).astype(np.int64)
    rows = _rows(rng, scene, _victim(rng, scene, count), merchant, time)
    rows["channel"] = rng.choice((pb.CHANNEL_ECOMMERCE, pb.CHANNEL_MOTO), p=(0.7, 0.3))
    prices = rng.integers(40, 250, 3) * 100 - 1
    rows["amount_reference_minor"] = rng.choice(prices, count)
    return rows


def _stolen_card(rng: np.random.Generator, scene: Scene) -> Rows:
    """A stolen purse: taps below the limit in shop after shop, perhaps cash at the end."""
    count = int(rng.integers(5, 13))
    card = _victim(rng, scene)
    region = np.repeat(scene.world.cards(card).region, count)
    merchant = scene.world.visit(region, rng.random(count))
    rows = _rows(
        rng, scene, np.repeat(card, count), merchant, _times(rng, scene, count, 5 * _MINUTE_MS)
    )
    limit = rng.integers(2_000, _CONTACTLESS_LIMIT_MINOR, count)
    is_cash = rows["mcc"] == ATM_MCC
    rows["amount_reference_minor"] = np.where(is_cash, 20_000, limit)
    rows["entry_mode"] = np.where(is_cash, pb.ENTRY_MODE_CHIP, pb.ENTRY_MODE_CONTACTLESS)
    return rows


_SCHEMES: Final[dict[FraudKind, Callable[[np.random.Generator, Scene], Rows]]] = {
    FraudKind.CARD_TESTING: _card_testing,
    FraudKind.COMPROMISED_TERMINAL: _compromised_terminal,
    FraudKind.ACCOUNT_TAKEOVER: _account_takeover,
    FraudKind.SLOW_SPENDER: _slow_spender,
    FraudKind.MERCHANT_COLLUSION: _merchant_collusion,
    FraudKind.STOLEN_CARD: _stolen_card,
}
_ROW_SHARE: Final = {
    FraudKind.CARD_TESTING: 0.23,
    FraudKind.COMPROMISED_TERMINAL: 0.18,
    FraudKind.ACCOUNT_TAKEOVER: 0.20,
    FraudKind.SLOW_SPENDER: 0.09,
    FraudKind.MERCHANT_COLLUSION: 0.15,
    FraudKind.STOLEN_CARD: 0.15,
}
_ROWS_PER_CAMPAIGN: Final = {
    FraudKind.CARD_TESTING: 9.0,
    FraudKind.COMPROMISED_TERMINAL: 100.0,
    FraudKind.ACCOUNT_TAKEOVER: 8.0,
    FraudKind.SLOW_SPENDER: 8.5,
    FraudKind.MERCHANT_COLLUSION: 42.5,
    FraudKind.STOLEN_CARD: 8.5,
}
