"""What a row reads of its terminal, at the borders of the buckets, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fraudstream.features.catalogue import FEATURE_NAMES, kernel_plan
from fraudstream.features.kernel import (
    advance_cards,
    advance_labels,
    advance_terminals,
    empty_outputs,
)
from fraudstream.features.state import (
    CARD_STATE,
    DAY_MS,
    HOUR_MS,
    LABEL_STATE,
    MINUTE_MS,
    ROW,
    TERMINAL_STATE,
)

_DAY = 20_000 * DAY_MS


def _ints(*numbers: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(numbers, np.int64)


def _seen(event_ms: int, purchases: list[int], frauds: list[int]) -> dict[str, float]:
    """Return the features of a row at `event_ms` at a terminal with these times behind it."""
    terminals, labels = np.zeros(1, TERMINAL_STATE), np.zeros(1, LABEL_STATE)
    for at_ms in purchases:
        advance_terminals(terminals, _ints(0), _ints(at_ms), _ints(100), _ints(1))
    for at_ms in frauds:
        advance_labels(labels, _ints(0), _ints(at_ms), _ints(1))
    rows = np.zeros(1, ROW)
    rows["event_ms"], rows["kind"] = event_ms, 1
    vectors, sequences = empty_outputs(1)
    cards, zero = np.zeros(1, CARD_STATE), _ints(0)
    advance_cards(cards, zero, rows, terminals, labels, zero, kernel_plan(), vectors, sequences)
    return dict(zip(FEATURE_NAMES, vectors[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("days_after", "expected"),
    [(0, 0.0), (7, 0.0), (8, 1.0), (14, 1.0), (15, 0.0)],
)
def test_fraud_is_seen_when_its_day_is_settled_for_a_week(days_after: int, expected: float) -> None:
    """The 7-day count holds frauds 8 to 14 days old: the label delay, then the window."""
    seen = _seen(_DAY + days_after * DAY_MS, [_DAY], [_DAY + HOUR_MS])

    assert seen["terminal_fraud_count_7d"] == expected
    assert seen["terminal_fraud_share_7d"] == expected


@pytest.mark.parametrize(("days_after", "expected"), [(37, 1.0), (38, 0.0)])
def test_fraud_leaves_the_month_after_delay_and_window(days_after: int, expected: float) -> None:
    """The 30-day count holds frauds 8 to 37 days old."""
    seen = _seen(_DAY + days_after * DAY_MS, [_DAY], [_DAY])

    assert seen["terminal_fraud_count_30d"] == expected


def test_fraud_share_is_frauds_by_purchases_of_the_same_days() -> None:
    """One fraud among four purchases of a settled day is a quarter."""
    seen = _seen(_DAY + 8 * DAY_MS, [_DAY, _DAY, _DAY, _DAY, _DAY + DAY_MS], [_DAY])

    assert seen["terminal_fraud_share_24h"] == 0.25


@pytest.mark.parametrize(
    ("before_ms", "expected"),
    [(0, 0.0), (MINUTE_MS, 1.0), (60 * MINUTE_MS, 1.0), (61 * MINUTE_MS, 0.0)],
)
def test_last_hour_of_a_terminal_is_sixty_closed_minutes(before_ms: int, expected: float) -> None:
    """The row's own minute is open and not read; the sixty before it are."""
    assert _seen(_DAY, [_DAY - before_ms], [])["terminal_count_1h"] == expected


def test_busy_minute_of_a_terminal_is_counted_in_full() -> None:
    """More purchases in one minute than 16 bits hold still are a positive count."""
    terminals = np.zeros(1, TERMINAL_STATE)
    busy = 40_000
    zeros, ones = np.zeros(busy, np.int64), np.ones(busy, np.int64)

    advance_terminals(terminals, zeros, zeros + _DAY, ones, ones)

    assert int(terminals["minute_count"].sum()) == busy


@pytest.mark.parametrize(
    ("unit_ms", "kept", "feature"),
    [
        (MINUTE_MS, 64, "terminal_count_1h"),
        (HOUR_MS, 26, "terminal_count_24h"),
        (DAY_MS, 40, "terminal_count_30d"),
    ],
)
def test_purchase_that_fell_out_of_the_ring_is_gone(unit_ms: int, kept: int, feature: str) -> None:
    """A ring keeps so many buckets up to its newest; an older purchase is not counted."""
    newest, oldest = _DAY, _DAY - (kept - 1) * unit_ms

    inside = _seen(oldest + unit_ms, [newest, oldest], [])
    outside = _seen(oldest, [newest, oldest - unit_ms], [])

    assert inside[feature] == 1.0
    assert outside[feature] == 0.0


@pytest.mark.parametrize(
    ("unit_ms", "kept", "feature"),
    [
        (5 * MINUTE_MS, 12, "card_count_1h"),
        (HOUR_MS, 24, "card_count_24h"),
        (DAY_MS, 30, "card_count_30d"),
    ],
)
def test_late_purchase_of_a_card_counts_while_its_bucket_is_kept(
    unit_ms: int, kept: int, feature: str
) -> None:
    """A row sees itself in its own window, unless its bucket was given up before it came."""
    rows = np.zeros(3, ROW)
    rows["event_ms"] = [_DAY, _DAY - (kept - 1) * unit_ms, _DAY - kept * unit_ms]
    rows["kind"] = 1
    vectors, sequences = empty_outputs(3)
    cards, zeros = np.zeros(1, CARD_STATE), np.zeros(3, np.int64)
    terminals, labels = np.zeros(1, TERMINAL_STATE), np.zeros(1, LABEL_STATE)

    advance_cards(
        cards, zeros, rows, terminals, labels, zeros - 1, kernel_plan(), vectors, sequences
    )

    assert vectors[:, FEATURE_NAMES.index(feature)].tolist() == [1.0, 1.0, 0.0]
