"""What a row reads of its terminal, at the borders of the buckets, computed by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.catalogue import FEATURE_NAMES, SHARED_ENTITIES, Entity
from fraudstream.features.entity_kernel import advance_shared, read_shared
from fraudstream.features.state import (
    CARD_STATE,
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    ROW,
    SHARED_ROW,
    SHARED_STATE,
)

_DAY = 20_000 * DAY_MS
_ZERO = np.zeros(1, np.int64)


def _line(event_ms: int, kind: int = 1, change: int = 0, unusual: int = 0) -> npt.NDArray[np.void]:
    line = np.zeros(1, SHARED_ROW)
    line["event_ms"], line["amount"], line["kind"] = event_ms, 100, kind
    line["change"], line["is_unusual"] = change, unusual
    return line


def _fraud(event_ms: int, change: int = 1) -> npt.NDArray[np.void]:
    return _line(event_ms, kind=0, change=change)


def _seen(event_ms: int, log: list[npt.NDArray[np.void]]) -> dict[str, float]:
    """Return the features of a row at `event_ms` at a terminal with this log behind it."""
    states = np.zeros(1, SHARED_STATE)
    for line in log:
        advance_shared(states, _ZERO, line)
    vectors, _ = empty_outputs(1)
    row = np.zeros(1, ROW)
    row["event_ms"], row["amount"] = event_ms, 300
    state_of = [[0 if entity is Entity.TERMINAL else -1] for entity in SHARED_ENTITIES]
    read_shared(states, np.array(state_of), row, vectors)
    return dict(zip(FEATURE_NAMES, vectors[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("days_after", "expected"),
    [(0, 0.0), (7, 0.0), (8, 1.0), (14, 1.0), (15, 0.0)],
)
def test_fraud_is_seen_when_its_day_is_settled_for_a_week(days_after: int, expected: float) -> None:
    """The 7-day count holds frauds 8 to 14 days old: the label delay, then the window."""
    seen = _seen(_DAY + days_after * DAY_MS, [_line(_DAY), _fraud(_DAY + HOUR_MS)])

    assert seen["terminal_fraud_count_7d"] == expected
    assert seen["terminal_fraud_share_7d"] == expected


@pytest.mark.parametrize(("days_after", "expected"), [(37, 1.0), (38, 0.0)])
def test_fraud_leaves_the_month_after_delay_and_window(days_after: int, expected: float) -> None:
    """The 30-day count holds frauds 8 to 37 days old."""
    seen = _seen(_DAY + days_after * DAY_MS, [_line(_DAY), _fraud(_DAY)])

    assert seen["terminal_fraud_count_30d"] == expected


def test_fraud_share_is_frauds_by_purchases_of_the_same_days() -> None:
    """One fraud among four purchases of a settled day is a quarter."""
    log = [*(_line(_DAY) for _ in range(4)), _line(_DAY + DAY_MS), _fraud(_DAY)]

    assert _seen(_DAY + 8 * DAY_MS, log)["terminal_fraud_share_24h"] == 0.25


def test_flipped_label_takes_its_fraud_back() -> None:
    """A fraud that turned out to be genuine is counted no more."""
    seen = _seen(_DAY + 8 * DAY_MS, [_line(_DAY), _fraud(_DAY), _fraud(_DAY, change=-1)])

    assert seen["terminal_fraud_count_7d"] == 0.0


def test_label_that_comes_before_its_transaction_waits_for_its_day() -> None:
    """Order among the sources is not known: a label first, then its purchase, is the same."""
    log = [_line(_DAY), _fraud(_DAY)]

    seen, seen_label_first = (_seen(_DAY + 8 * DAY_MS, way) for way in (log, log[::-1]))

    np.testing.assert_equal(seen_label_first, seen)
    assert seen["terminal_fraud_share_7d"] == 1.0


def test_label_of_a_transaction_that_never_came_is_a_fraud_without_purchases() -> None:
    """It is counted, as its bank says, and there is no share of nothing."""
    seen = _seen(_DAY + 8 * DAY_MS, [_fraud(_DAY)])

    assert seen["terminal_fraud_count_7d"] == 1.0
    assert seen["terminal_fraud_share_7d"] == 0.0


def test_fraud_that_leaves_the_cards_own_level_explains_itself() -> None:
    """Of two frauds of a day one was an unusual purchase: the other is the terminal's."""
    log = [_line(_DAY, unusual=1), _line(_DAY), _fraud(_DAY), _fraud(_DAY)]

    seen = _seen(_DAY + 8 * DAY_MS, log)

    assert seen["terminal_unexplained_3d"] == 1.0
    assert seen["terminal_fraud_run"] == 1.0


def test_run_of_frauds_begins_after_the_last_genuine_purchase() -> None:
    """A fraud, a genuine day, then frauds on two days: the run has two, and is three days old."""
    log = [_line(_DAY + day * DAY_MS) for day in range(4)]
    log += [_fraud(_DAY + day * DAY_MS) for day in (0, 2, 3)]

    seen = _seen(_DAY + (4 + 8) * DAY_MS, log)

    assert seen["terminal_days_since_genuine"] == 3.0
    assert seen["terminal_fraud_run"] == 2.0
    assert seen["terminal_fraud_run_days"] == 3.0


@pytest.mark.parametrize(
    ("before_ms", "expected"),
    [(0, 0.0), (MINUTE_MS, 1.0), (60 * MINUTE_MS, 1.0), (61 * MINUTE_MS, 0.0)],
)
def test_last_hour_of_a_terminal_is_sixty_closed_minutes(before_ms: int, expected: float) -> None:
    """The row's own minute is open and not read; the sixty before it are."""
    assert _seen(_DAY, [_line(_DAY - before_ms)])["terminal_count_1h"] == expected


@pytest.mark.parametrize(
    ("before_ms", "expected"),
    [(0, 0.0), (HOUR_MS, 1.0), (24 * HOUR_MS, 1.0), (25 * HOUR_MS, 0.0)],
)
def test_last_day_of_a_terminal_is_24_closed_hours(before_ms: int, expected: float) -> None:
    """The row's own hour is open and not read; the 24 before it are."""
    assert _seen(_DAY, [_line(_DAY - before_ms)])["terminal_count_24h"] == expected


def test_mean_of_a_terminal_is_of_the_days_before_today() -> None:
    """300 against purchases of 100: today's do not count, those of the 31st day before neither."""
    days = (0, 1, 30)

    inside = _seen(_DAY, [_line(_DAY - day * DAY_MS) for day in days])
    outside = _seen(_DAY, [_line(_DAY), _line(_DAY - 31 * DAY_MS)])

    assert inside["terminal_mean_30d"] == 100.0
    assert inside["terminal_amount_to_mean_30d"] == 3.0
    assert inside["terminal_count_30d"] == 2.0
    assert np.isnan(outside["terminal_mean_30d"])
    assert np.isnan(outside["terminal_amount_to_mean_30d"])


def test_mean_of_a_terminal_is_of_days_whose_spend_is_kept() -> None:
    """A late row looks further back than spend is kept: count and spend are of the same days."""
    newest, kept, dropped = (_DAY - days * DAY_MS for days in (0, 31, 33))
    log = [_line(newest), _line(kept), _line(dropped)]

    seen = _seen(_DAY - 5 * DAY_MS, log)

    assert seen["terminal_count_30d"] == 2.0
    assert seen["terminal_mean_30d"] == 100.0


@pytest.mark.parametrize(
    ("before_ms", "expected"),
    [(0, None), (1, 0.001), (HOUR_MS, 3_600.0), (31 * DAY_MS, 30 * 86_400.0)],
)
def test_age_of_a_terminal_is_known_a_minute_later_and_ends_at_a_month(
    before_ms: int, expected: float | None
) -> None:
    """What was first seen in the row's own minute has no age yet."""
    age = _seen(_DAY, [_line(_DAY - before_ms)])["terminal_seconds_since_first"]

    assert np.isnan(age) if expected is None else age == np.float32(expected)


def test_busy_minute_of_a_terminal_is_counted_up_to_16_bits() -> None:
    """More purchases in one minute than 16 bits hold are the most that they hold, not a few."""
    states, busy = np.zeros(1, SHARED_STATE), 70_000
    lines = np.repeat(_line(_DAY), busy)

    advance_shared(states, np.zeros(busy, np.int64), lines)

    assert int(states["minute_count"].sum()) == 65_535
    assert int(states["hour_count"].sum()) == busy


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

    inside = _seen(oldest + unit_ms, [_line(newest), _line(oldest)])
    outside = _seen(oldest, [_line(newest), _line(oldest - unit_ms)])

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
    outputs = empty_outputs(3)

    advance_cards(np.zeros(1, CARD_STATE), np.zeros(3, np.int64), rows, outputs, np.arange(3))

    assert outputs[0][:, FEATURE_NAMES.index(feature)].tolist() == [1.0, 1.0, 0.0]
