"""Count every feature again, from all rows, in plain Python: what the kernel is held to.

Imports neither kernel nor state code. Quadratic on purpose: a row looks at all rows before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
PURCHASE = 1
STEPS = 32
LABEL_DELAY_D = 7
EXPIRY_MS = 90 * DAY_MS
NO_TERMINAL = -1
NEVER = -1

# Width of a bucket and how many of them the ring keeps: of a card, then of a terminal.
CARD_RING = {"1h": (5 * MINUTE_MS, 12), "24h": (HOUR_MS, 24), "7d": (DAY_MS, 30)}
CARD_RING["30d"] = CARD_RING["7d"]
CARD_SPAN = {"1h": 12, "24h": 24, "7d": 7, "30d": 30}
TERMINAL_RING = {"1h": (MINUTE_MS, 64), "24h": (HOUR_MS, 26), "7d": (DAY_MS, 40)}
TERMINAL_RING["30d"] = TERMINAL_RING["7d"]
TERMINAL_SPAN = {"1h": 60, "24h": 24, "7d": 7, "30d": 30}
FRAUD_SPAN = {"24h": 1, "7d": 7, "30d": 30}


@dataclass(frozen=True, slots=True)
class Row:
    """One transaction of a history in arrival order."""

    card: int
    terminal: int
    event_ms: int
    append_ms: int
    amount: int
    kind: int
    channel: int
    mcc: int
    utc_offset: int
    label_ms: int


def ratio(part: float, whole: float) -> float:
    """Return `part / whole`, NaN where that says nothing."""
    return math.nan if whole == 0 or math.isnan(whole) else part / whole


def kept(rows: Sequence[Row], ring: tuple[int, int], first: int, last: int) -> list[Row]:
    """Return the rows in the buckets `first` to `last` that the ring still holds."""
    width_ms, size = ring
    if not rows:
        return []
    oldest = max(row.event_ms // width_ms for row in rows) - size + 1
    return [row for row in rows if max(first, oldest) <= row.event_ms // width_ms <= last]


def life_of(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a card since it last began afresh; the last row is part of it."""
    life: list[Row] = []
    for row in rows:
        if life and row.event_ms - max(other.event_ms for other in life) > EXPIRY_MS:
            life = []
        life.append(row)
    return life


def card_window(rows: Sequence[Row], window: str, event_ms: int) -> list[int]:
    """Return the amounts of the purchases in a card's window that ends at `event_ms`."""
    bucket = event_ms // CARD_RING[window][0]
    purchases = [row for row in rows if row.kind == PURCHASE]
    first = bucket - CARD_SPAN[window] + 1
    return [row.amount for row in kept(purchases, CARD_RING[window], first, bucket)]


def median_of(amounts: Sequence[int]) -> float:
    """Return the median, NaN for none."""
    ordered = sorted(amounts)
    middle = len(ordered) // 2
    if not ordered:
        return math.nan
    return (ordered[(len(ordered) - 1) // 2] + ordered[middle]) / 2


def local_hour(row: Row) -> float:
    """Return the hour of the local day, 0 to 24."""
    return (row.event_ms + row.utc_offset * MINUTE_MS) % DAY_MS / HOUR_MS


def is_weekend(row: Row) -> bool:
    """Tell whether the local day is a Saturday or a Sunday; 3 January 1970 was a Saturday."""
    day = (row.event_ms + row.utc_offset * MINUTE_MS) // DAY_MS
    return (day - 2) % 7 < 2


def card_features(rows: Sequence[Row]) -> dict[str, float]:
    """Return the features of the last row of a card's rows."""
    life = life_of(rows)
    row, before = life[-1], life[:-1]
    ring = before[-STEPS:]
    features: dict[str, float] = {"amount": row.amount}
    for window in CARD_RING:
        amounts = card_window(life, window, row.event_ms)
        features[f"card_count_{window}"] = len(amounts)
        features[f"card_sum_{window}"] = sum(amounts)
        features[f"card_mean_{window}"] = ratio(sum(amounts), len(amounts))
        features[f"card_max_{window}"] = max(amounts, default=math.nan)
    earlier = card_window(before, "30d", row.event_ms)
    times: list[float] = [other.event_ms for other in before] or [math.nan]
    features["card_seconds_since_previous"] = not_negative((row.event_ms - max(times)) / 1000)
    age_s = not_negative((row.event_ms - min(times)) / 1000)
    features["card_seconds_since_first"] = min(age_s, 30 * 86_400.0)
    features["card_amount_to_mean_30d"] = ratio(row.amount, ratio(sum(earlier), len(earlier)))
    spent = [other.amount for other in ring if other.kind == PURCHASE]
    features["card_amount_to_median"] = ratio(row.amount, median_of(spent))
    is_known = row.terminal in {other.terminal for other in ring}
    features["card_is_new_terminal"] = (
        math.nan if row.terminal == NO_TERMINAL else float(not is_known)
    )
    features["is_night"] = float(local_hour(row) < 7)
    features["is_weekend"] = float(is_weekend(row))
    return features


def not_negative(seconds: float) -> float:
    """Return the seconds, 0 for less; NaN stays."""
    return seconds if math.isnan(seconds) else max(0.0, seconds)


def terminal_features(rows: Sequence[Row]) -> dict[str, float]:
    """Return the features that the last row reads of its terminal, from closed buckets."""
    row = rows[-1]
    names = [f"terminal_count_{window}" for window in TERMINAL_RING]
    names += [f"terminal_fraud_share_{window}" for window in FRAUD_SPAN]
    names += ["terminal_mean_24h", "terminal_fraud_count_7d", "terminal_fraud_count_30d"]
    if row.terminal == NO_TERMINAL:
        return dict.fromkeys(names, math.nan)
    here = [other for other in rows[:-1] if other.terminal == row.terminal]
    purchases = [other for other in here if other.kind == PURCHASE]
    features: dict[str, float] = {}
    for window, ring in TERMINAL_RING.items():
        last = row.event_ms // ring[0] - 1
        seen = kept(purchases, ring, last - TERMINAL_SPAN[window] + 1, last)
        features[f"terminal_count_{window}"] = len(seen)
        if window == "24h":
            features["terminal_mean_24h"] = ratio(sum(o.amount for o in seen), len(seen))
    return features


def fraud_features(rows: Sequence[Row], labelled: Sequence[Row]) -> dict[str, float]:
    """Return the fraud counts and shares that the last row reads of its terminal.

    Args:
        rows: All rows in arrival order, the row itself last.
        labelled: Rows whose fraud label had arrived when the row did, wherever they stand.
    """
    row = rows[-1]
    if row.terminal == NO_TERMINAL:
        return {}
    frauds = [other for other in labelled if other.terminal == row.terminal]
    purchases = [o for o in rows[:-1] if o.terminal == row.terminal and o.kind == PURCHASE]
    features: dict[str, float] = {}
    last = row.event_ms // DAY_MS - LABEL_DELAY_D - 1
    for window, days in FRAUD_SPAN.items():
        known = len(kept(frauds, TERMINAL_RING["30d"], last - days + 1, last))
        seen = len(kept(purchases, TERMINAL_RING["30d"], last - days + 1, last))
        features[f"terminal_fraud_share_{window}"] = 0.0 if seen == 0 else known / seen
        features[f"terminal_fraud_count_{window}"] = known
    del features["terminal_fraud_count_24h"]
    return features


def recount_row(rows: Sequence[Row], position: int) -> dict[str, float]:
    """Return every feature of the row at `position` of a history, by name."""
    until = rows[: position + 1]
    row = rows[position]
    labelled = [other for other in rows if NEVER < other.label_ms <= row.append_ms]
    of_card = [other for other in until if other.card == row.card]
    return {
        **card_features(of_card),
        **terminal_features(until),
        **fraud_features(until, labelled),
    }


def recount_sequence(rows: Sequence[Row], position: int) -> list[list[float]]:
    """Return the sequence of the row at `position`: 32 steps of 6 channels, oldest first."""
    row = rows[position]
    life = life_of([other for other in rows[: position + 1] if other.card == row.card])
    steps: list[list[float]] = [
        [
            other.amount,
            max(0, row.event_ms - other.event_ms) / 1000,
            other.kind,
            other.channel,
            other.mcc,
            local_hour(other),
        ]
        for other in life[-STEPS:]
    ]
    return [[0.0, -1.0, 0.0, 0.0, 0.0, 0.0]] * (STEPS - len(steps)) + steps
