"""Genuine traffic: when and where cards pay, how much, and what makes it look odd at times."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.v1 import transaction_pb2 as pb
from training.simulator.world import (
    ATM_MCC,
    KINDS,
    ONLINE_REGION,
    REGIONS,
    USUAL_PLACES,
    Ints,
    World,
)

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000

# One simulated transaction. `region` is the merchant's; `device` 0 is the cardholder's own, others
# belong to fraudsters; `fraud_kind` 0 is genuine; `campaign` tells the fraudsters apart.
ROW: Final = np.dtype(
    [
        ("event_time_ms", "<i8"),
        ("card", "<i8"),
        ("merchant", "<i8"),
        ("terminal", "<i8"),
        ("amount_reference_minor", "<i8"),
        ("mcc", "<i2"),
        ("utc_offset_minutes", "<i2"),
        ("kind", "i1"),
        ("channel", "i1"),
        ("entry_mode", "i1"),
        ("region", "i1"),
        ("fraud_kind", "i1"),
        ("device", "<i4"),
    ]
)
Rows = NDArray[np.void]

_WEEK: Final = np.array([1.0, 1.0, 1.0, 1.05, 1.25, 1.3, 0.85])  # Monday first
_PEAK_H: Final = np.array([8.5, 12.8, 18.3])
_PEAK_SHARE: Final = np.array([0.25, 0.62, 1.0])
_PEAK_SPREAD_H: Final = np.array([1.3, 1.6, 2.3])
_MCC: Final = np.array([kind.mcc for kind in KINDS])
_MEDIAN: Final = np.array([float(kind.median_minor) for kind in KINDS])
_SPREAD: Final = np.array([kind.spread for kind in KINDS])
_OFFSET: Final = np.array([region.utc_offset_minutes for region in REGIONS])
_SUBSCRIPTION: Final = 5968
_SHOP_MODES: Final = np.array([pb.ENTRY_MODE_CHIP, pb.ENTRY_MODE_CONTACTLESS])


def habitual_times(rng: np.random.Generator, world: World, card: Ints, start_day: int) -> Ints:
    """Return one local-clock time for each card, ms since `start_day`'s local midnight.

    `card` repeats a card once for every time wanted; the caller adds the day.
    """
    peak = np.searchsorted(_PEAK_SHARE, rng.random(len(card)))
    hour = rng.normal(_PEAK_H[peak], _PEAK_SPREAD_H[peak]) + world.cards(card).rhythm_h
    hour = np.where(rng.random(len(card)) < 0.06, rng.random(len(card)) * 24, hour)
    return (start_day * DAY_MS + np.mod(hour, 24.0) * HOUR_MS).astype(np.int64)


def draw_days(rng: np.random.Generator, count: int, first_day: int, days: int) -> Ints:
    """Return days since the epoch, busier towards the weekend."""
    day = np.arange(first_day, first_day + days)
    weight = _WEEK[(day + 3) % 7]  # 1970-01-01 was a Thursday
    drawn: Ints = rng.choice(day, size=count, p=weight / weight.sum())
    return drawn


def price(rng: np.random.Generator, world: World, card: Ints, merchant: Ints) -> Ints:
    """Return amounts in reference minor units: the merchant's kind times the card's own level."""
    kind = world.kind_of_merchant[merchant]
    holder = world.cards(card)
    noise = rng.standard_normal(len(card)) * _SPREAD[kind] * holder.spread
    amount = _MEDIAN[kind] * np.exp(holder.level + noise)
    big = rng.random(len(card)) < 0.009
    amount = np.where(big, amount * np.exp(rng.normal(1.7, 0.5, len(card))), amount)
    cash = np.maximum(np.round(amount / 2_000), 1) * 2_000
    bounded = np.clip(np.where(_MCC[kind] == ATM_MCC, cash, amount), 50, 2_500_000)
    return np.asarray(bounded, np.int64)


def rows_at(world: World, card: Ints, merchant: Ints, time_ms: Ints, terminal_draw: Ints) -> Rows:
    """Return rows with everything but amount and fraud filled in from card and merchant."""
    rows = np.zeros(len(card), ROW)
    rows["card"], rows["merchant"], rows["event_time_ms"] = card, merchant, time_ms
    rows["terminal"] = merchant * 4 + terminal_draw % world.terminals_of_merchant[merchant]
    rows["mcc"] = _MCC[world.kind_of_merchant[merchant]]
    rows["region"] = world.region_of_merchant[merchant]
    rows["kind"] = pb.TRANSACTION_KIND_PURCHASE
    online = world.is_online[merchant]
    home = world.cards(card).region
    rows["utc_offset_minutes"] = _OFFSET[np.where(online, home, rows["region"])]
    rows["channel"] = np.where(online, pb.CHANNEL_ECOMMERCE, pb.CHANNEL_POS)
    rows["channel"][rows["mcc"] == ATM_MCC] = pb.CHANNEL_ATM
    rows["channel"][rows["mcc"] == _SUBSCRIPTION] = pb.CHANNEL_RECURRING
    rows["entry_mode"] = np.where(online, pb.ENTRY_MODE_MANUAL, pb.ENTRY_MODE_CHIP)
    return rows


def genuine_rows(rng: np.random.Generator, world: World, card: Ints, time_ms: Ints) -> Rows:
    """Return one genuine purchase of each card at its time: mostly where the card usually goes."""
    count = len(card)
    holder = world.cards(card)
    region = world.travel_region(card, time_ms // DAY_MS, holder.region)
    is_away = region != holder.region
    online = rng.random(count) < holder.online_share
    region = np.where(online, ONLINE_REGION, region)
    slot = (USUAL_PLACES * rng.random(count) ** 2).astype(np.int64)
    usual = rng.random(count) < np.where(is_away, 0.3, 0.87)
    merchant = np.where(
        usual, world.usual(card, region, slot), world.visit(region, rng.random(count))
    )
    rows = rows_at(world, card, merchant, time_ms, rng.integers(0, 12, count))
    amount = price(rng, world, card, merchant)
    rows["amount_reference_minor"] = np.where(is_away & ~online, amount * 1.3, amount)
    _choose_entry_modes(rng, rows)
    return rows


def _choose_entry_modes(rng: np.random.Generator, rows: Rows) -> None:
    uniform = rng.random(len(rows))
    tap = (rows["amount_reference_minor"] <= 5_000) & (uniform < 0.75)
    shop = np.where(uniform > 0.97, pb.ENTRY_MODE_MAGSTRIPE, _SHOP_MODES[tap.astype(np.int64)])
    web = np.where(uniform < 0.55, pb.ENTRY_MODE_STORED, pb.ENTRY_MODE_MANUAL)
    at_shop = np.isin(rows["channel"], (pb.CHANNEL_POS, pb.CHANNEL_ATM))
    rows["entry_mode"] = np.where(at_shop, shop, web)


def with_company(rng: np.random.Generator, world: World, rows: Rows) -> Rows:
    """Add what comes with purchases: shopping trips, refunds, reversals, verifications."""
    parts = [rows, _trips(rng, world, rows), *_echoes(rng, rows)]
    return np.concatenate(parts)


def _trips(rng: np.random.Generator, world: World, rows: Rows) -> Rows:
    """Purchases that follow another within minutes: errands, and small things bought in a row."""
    follows = rng.geometric(0.55, len(rows)) * (rng.random(len(rows)) < 0.06)
    first = np.repeat(np.arange(len(rows)), follows)
    step = np.arange(len(first)) - np.repeat(np.cumsum(follows) - follows, follows) + 1
    gap_ms = np.exp(rng.normal(6.3, 1.3, len(first))) * 1_000
    time_ms = rows["event_time_ms"][first] + (step * gap_ms).astype(np.int64)
    again = genuine_rows(rng, world, rows["card"][first], time_ms)
    same = rng.random(len(first)) < 0.4  # the same shop again
    kept = np.where(same)[0]
    amount = price(rng, world, again["card"][kept], rows["merchant"][first[kept]])
    again[kept] = rows[first[kept]]
    again["event_time_ms"][kept] = time_ms[kept]
    again["amount_reference_minor"][kept] = amount
    return again


def _echoes(rng: np.random.Generator, rows: Rows) -> list[Rows]:
    """Refunds days later, reversals seconds later, verifications seconds before."""
    uniform = rng.random(len(rows))
    refunds = rows[(uniform < 0.012) & (rows["channel"] != pb.CHANNEL_ATM)].copy()
    refunds["kind"] = pb.TRANSACTION_KIND_REFUND
    refunds["event_time_ms"] += (rng.uniform(0.5, 14, len(refunds)) * DAY_MS).astype(np.int64)
    reversals = rows[uniform > 0.997].copy()
    reversals["kind"] = pb.TRANSACTION_KIND_REVERSAL
    reversals["event_time_ms"] += rng.integers(5_000, 600_000, len(reversals))
    fresh = (rows["channel"] == pb.CHANNEL_ECOMMERCE) & (uniform > 0.5) & (uniform < 0.54)
    verifications = rows[fresh].copy()
    verifications["kind"] = pb.TRANSACTION_KIND_VERIFICATION
    verifications["amount_reference_minor"] = 0
    verifications["event_time_ms"] -= rng.integers(5_000, 300_000, len(verifications))
    return [refunds, reversals, verifications]
