"""Alerts, cost, delay, reliability and segments, against cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.figures.cost import CostModel, cost_curve, cost_of
from training.evaluation.figures.detection import detection_delay
from training.evaluation.figures.operating import (
    flag_budget,
    flag_fpr,
    point_of,
    threshold_of_budget,
)
from training.evaluation.figures.outcomes import Outcomes
from training.evaluation.figures.reliability import log_loss, reliability, reliability_bins
from training.evaluation.figures.segments import Trait, measure_segments, worst_of
from training.metrics import DAY_MS, Scored, card_recall_at_k

SCORE = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
FRAUD = np.array([True, False, True, False, False])
AMOUNT = np.array([1_000, 2_000, 3_000, 4_000, 5_000])
OUTCOMES = Outcomes(FRAUD, np.arange(5), np.array([1, 2, 1, 3, 3]), AMOUNT)


def test_budget_finds_its_share_of_fraud_and_of_value() -> None:
    """40 % of five rows are two: one of two frauds, 1,000 of 4,000 minor units, 1 of 3 genuine."""
    point = point_of(0.4, SCORE, flag_budget(SCORE, 0.4), OUTCOMES)

    assert (point.alerts, point.caught, point.threshold) == (2, 1, 0.8)
    assert (point.precision, point.recall, point.value_detected) == (0.5, 0.5, 0.25)
    assert point.fpr == pytest.approx(1 / 3)


def test_equal_scores_at_the_edge_of_a_budget_are_drawn() -> None:
    """A score that knows nothing finds its share, not what the first days happen to have."""
    is_fraud = np.arange(10_000) < 100
    flagged = flag_budget(np.full(10_000, 0.5), 0.01)

    assert flagged.sum() == 100
    assert (flagged & is_fraud).sum() < 10
    assert np.array_equal(flagged, flag_budget(np.full(10_000, 0.5), 0.01))


def test_false_positive_rate_is_never_over_what_was_asked_for() -> None:
    """One of three genuine rows may be flagged at 1/3, none at 0.3: the first row only is left."""
    assert flag_fpr(SCORE, FRAUD, 1 / 3).tolist() == [True, True, True, False, False]
    assert flag_fpr(SCORE, FRAUD, 0.3).tolist() == [True, False, False, False, False]


def test_tied_genuine_rows_are_flagged_together_or_not_at_all() -> None:
    """A threshold cannot part rows of one score, so a constant score flags nothing."""
    assert not flag_fpr(np.full(5, 0.5), FRAUD, 0.01).any()
    assert threshold_of_budget(np.full(5, 0.5), 0.2) == np.inf
    assert threshold_of_budget(SCORE, 0.4) == 0.8


def test_nothing_flagged_has_no_threshold_and_no_precision() -> None:
    """Zero alerts are a valid outcome, not a division by zero."""
    point = point_of(0.0, SCORE, np.zeros(5, np.bool_), OUTCOMES)

    assert (point.threshold, point.precision, point.recall) == (None, 0.0, 0.0)


def test_cost_adds_missed_fraud_reviews_and_friction() -> None:
    """Rows 1 and 2 flagged: 3,000 missed, two reviews of 500, a tenth of 2,000 good units."""
    flagged = flag_budget(SCORE, 0.4)

    cost = cost_of(flagged, OUTCOMES, CostModel(review_minor=500, friction=0.1))

    assert (cost.missed_minor, cost.review_minor, cost.friction_minor) == (3_000, 1_000, 200)
    assert cost.total_minor == 4_200


def test_cost_curve_is_the_cost_of_every_threshold() -> None:
    """4,000 without alerts; then 4000-1000+500, +500+200, -3000+500, +500+400, +500+500."""
    curve = cost_curve(SCORE, OUTCOMES, CostModel(review_minor=500, friction=0.1))

    assert curve.threshold.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert curve.cost_minor.tolist() == [4_000, 3_500, 4_200, 1_700, 2_600, 3_600]
    assert curve.best == 0.7


def test_every_point_of_the_cost_curve_is_what_flagging_costs() -> None:
    """The curve and the cost of its flagged rows are one thing, ties included."""
    rng = np.random.default_rng(2)
    score = rng.integers(0, 20, 300) / 20
    outcomes = Outcomes(
        rng.random(300) < 0.1, np.arange(300), np.arange(300), rng.integers(1, 9_000, 300)
    )
    model = CostModel(700, 0.07)

    curve = cost_curve(score, outcomes, model)

    for threshold, cost in zip(curve.threshold, curve.cost_minor, strict=True):
        assert cost == pytest.approx(
            cost_of(score >= threshold, outcomes, model).total_minor, abs=0.6
        )


def test_delay_counts_frauds_before_the_first_alert_of_a_card() -> None:
    """Card 1 loses two frauds, card 2 none, card 3 is never caught; card 4 has no fraud."""
    card = np.array([1, 1, 1, 1, 2, 3, 4])
    fraud = np.array([True, True, True, True, True, True, False])
    flagged = np.array([False, False, True, False, True, False, True])
    amount = np.array([10, 20, 40, 80, 160, 320, 640])

    delay = detection_delay(flagged, Outcomes(fraud, np.arange(7), card, amount))

    assert (delay.cards, delay.caught_cards) == (3, 2)
    assert (delay.mean_transactions, delay.median_transactions) == (1.0, 1.0)
    assert (delay.mean_lost_minor, delay.lost_minor) == (15.0, 350)
    assert delay.at_once_share == pytest.approx(1 / 3)


def test_an_alert_before_the_first_fraud_catches_nothing() -> None:
    """It is a false alert; an alert after the fraud catches the card, on a genuine row too."""
    fraud = np.array([False, True, False, True])
    flagged = np.array([True, False, True, False])

    delay = detection_delay(
        flagged, Outcomes(fraud, np.arange(4), np.ones(4, np.int64), np.full(4, 5))
    )

    assert (delay.caught_cards, delay.mean_transactions, delay.lost_minor) == (1, 1.0, 5)


def test_delay_without_fraud_is_no_crash() -> None:
    """Nothing was compromised: no cards, no means."""
    none = Outcomes(np.zeros(3, np.bool_), np.arange(3), np.arange(3), np.ones(3, np.int64))

    delay = detection_delay(np.ones(3, np.bool_), none)

    assert (delay.cards, delay.lost_minor) == (0, 0)
    assert np.isnan(delay.mean_transactions)


def test_card_recall_counts_a_card_until_it_is_caught() -> None:
    """Top 1 a day: of cards 1 and 2 card 1 is caught on day 0, card 2 on day 1; 2 of 1 + 2 hits."""
    scored = Scored(
        score=np.array([0.9, 0.8, 0.95, 0.7]),
        is_fraud=np.array([True, True, True, True]),
        event_time_ms=np.array([0, 0, DAY_MS, DAY_MS]),
        card=np.array([1, 2, 1, 2]),
    )

    assert card_recall_at_k(scored, k=1) == pytest.approx(2 / 3)


def test_log_loss_of_a_sure_error_is_large_but_finite() -> None:
    """ln 2 for a coin; a certain score that is wrong costs 27.6 nats, not infinity."""
    assert log_loss(np.array([0.5]), np.array([True])) == pytest.approx(np.log(2))
    assert log_loss(np.array([0.0]), np.array([True])) == pytest.approx(12 * np.log(10))


def test_reliability_bins_have_equal_mass_and_hold_every_row() -> None:
    """Four rows in two bins, lowest scores first."""
    bins = reliability_bins(np.array([0.4, 0.1, 0.9, 0.2]), np.array([1, 0, 1, 0]) > 0, bins=2)

    assert [(found.rows, found.frauds) for found in bins] == [(2, 0), (2, 2)]
    assert bins[0].mean_score == pytest.approx(0.15)
    assert bins[1].fraud_share == 1.0


def test_calibration_in_the_large_compares_promise_and_outcome() -> None:
    """Scores promise 3.5 frauds of five rows, two came."""
    assert reliability(SCORE, FRAUD).in_the_large == pytest.approx(3.5 / 2)


def _groups(flagged_in_b: int) -> list[np.ndarray]:
    """Return score, flagged, truth and group of 2,000 rows: group B has 100 frauds, as A."""
    group = np.repeat([0, 1], 1_000)
    is_fraud = np.tile(np.arange(1_000) < 100, 2)
    flagged = np.tile(np.arange(1_000) < 90, 2)
    flagged[1_000:] = np.arange(1_000) < flagged_in_b
    flagged[[500, 600, 700, 1_500]] = True
    return [np.where(is_fraud, 0.9, 0.01), flagged, is_fraud, group]


def test_segment_that_is_missed_is_flagged_against_all_rows() -> None:
    """Recall of B is 0.45, of all 0.675: ratio 1.5; A's is better than all and not flagged."""
    score, flagged, is_fraud, group = _groups(45)
    trait = Trait("group", ("A", "B"), group.astype(np.int16))

    a, b = measure_segments(score, flagged, is_fraud, [trait])

    assert (b.rows, b.frauds, b.recall) == (1_000, 100, 0.45)
    assert b.recall_ratio == pytest.approx(1.5)
    assert b.flags == ("recall",)
    assert a.flags == ()


def test_false_positive_ratio_of_a_handful_of_alerts_is_not_flagged() -> None:
    """A has 3 false alerts where 2 are to be expected: ratio 1.5, but too few to mean anything."""
    score, flagged, is_fraud, group = _groups(90)
    trait = Trait("group", ("A", "B"), group.astype(np.int16))

    a, _ = measure_segments(score, flagged, is_fraud, [trait])

    assert a.fpr_ratio == pytest.approx(1.5)
    assert a.is_thin("FPR")
    assert not a.flags


def test_worst_segment_leaves_out_those_with_too_few_frauds() -> None:
    """Of a trait the worst is named among segments that can be judged."""
    score, flagged, is_fraud, group = _groups(45)
    group[:5] = 2  # five frauds of A, all found

    segments = measure_segments(
        score, flagged, is_fraud, [Trait("group", ("A", "B", "C"), group.astype(np.int16))]
    )
    worst = {found.measure: found for found in worst_of(segments)}

    assert worst["recall"].label == "B"
    assert worst["recall"].is_flagged
    assert worst["calibration"].label in {"A", "B"}


def test_segment_without_fraud_has_no_recall_but_a_false_positive_rate() -> None:
    """There is nothing to find in it, but customers can be bothered."""
    score, flagged, is_fraud, group = _groups(45)
    group[990:1_000] = 2

    *_, empty = measure_segments(
        score, flagged, is_fraud, [Trait("group", ("A", "B", "C"), group.astype(np.int16))]
    )

    assert np.isnan(empty.recall)
    assert empty.fpr == 0.0
