"""Metrics against cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.metrics import (
    DAY_MS,
    Fold,
    Scored,
    at_budget,
    average_precision,
    brier_skill,
    card_precision_at_k,
    expected_calibration_error,
    handbook_filter,
    roc_auc,
    summarise,
)

SCORE = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
FRAUD = np.array([True, False, True, False, False])


def test_average_precision_is_the_mean_precision_at_each_fraud() -> None:
    """Frauds at ranks 1 and 3: (1/1 + 2/3) / 2."""
    assert average_precision(SCORE, FRAUD) == pytest.approx((1 + 2 / 3) / 2)


def test_tied_scores_count_together_whatever_their_order() -> None:
    """One fraud and one genuine row of one score: precision 1/2, not 1 or 0."""
    tied = np.array([0.5, 0.5])

    assert average_precision(tied, np.array([True, False])) == pytest.approx(0.5)
    assert average_precision(tied, np.array([False, True])) == pytest.approx(0.5)


def test_shuffled_labels_give_the_prevalence() -> None:
    """A score that knows nothing has AP = prevalence (leakage checklist)."""
    rng = np.random.default_rng(0)
    fraud = rng.random(200_000) < 0.05

    assert average_precision(rng.random(200_000), fraud) == pytest.approx(0.05, abs=0.003)
    assert roc_auc(rng.random(200_000), fraud) == pytest.approx(0.5, abs=0.01)


def test_roc_auc_is_the_share_of_pairs_in_order() -> None:
    """Of 2 x 3 pairs, the fraud at rank 3 is below one genuine row: 5 of 6."""
    assert roc_auc(SCORE, FRAUD) == pytest.approx(5 / 6)


def test_metrics_without_a_fraud_are_nan_and_no_crash() -> None:
    """Nothing to find is not the same as finding nothing."""
    assert np.isnan(average_precision(SCORE, np.zeros(5, np.bool_)))
    assert np.isnan(roc_auc(SCORE, np.zeros(5, np.bool_)))


def test_budget_flags_the_highest_share() -> None:
    """40 % of five rows are two: one fraud of two found, threshold 0.8."""
    found = at_budget(SCORE, FRAUD, 0.4)

    assert (found.threshold, found.precision, found.recall) == (0.8, 0.5, 0.5)


def test_calibration_error_is_the_gap_weighted_by_rows() -> None:
    """Two bins of two: |0.1 - 0.5| and |0.9 - 1.0|, half each."""
    score = np.array([0.1, 0.1, 0.9, 0.9])
    fraud = np.array([True, False, True, True])

    assert expected_calibration_error(score, fraud, bins=2) == pytest.approx(0.25)


def test_brier_skill_is_nothing_for_the_prevalence() -> None:
    """Always saying the prevalence has no skill."""
    assert brier_skill(np.full(5, 0.4), FRAUD) == pytest.approx(0.0)


def test_card_precision_takes_cards_once_and_forgets_the_caught() -> None:
    """Day 0: cards 1 and 2 are the top two, card 1 is a hit. Day 1: card 1 is out of the race."""
    scored = Scored(
        score=np.array([0.9, 0.8, 0.7, 0.1, 0.99, 0.6, 0.5]),
        is_fraud=np.array([True, False, False, False, True, True, False]),
        event_time_ms=np.array([0, 0, 0, 0, DAY_MS, DAY_MS, DAY_MS]),
        card=np.array([1, 1, 2, 3, 1, 2, 3]),
    )

    assert card_precision_at_k(scored, k=2) == pytest.approx((0.5 + 0.5) / 2)


def test_handbook_filter_drops_cards_once_their_fraud_is_known() -> None:
    """Known: frauds of the training week, and on test day k those of the day 8 days before it."""
    day = np.array([1, 14, 6, 14, 7, 14, 15, 16, 15])
    card = np.array([1, 1, 2, 2, 3, 3, 3, 3, 4])
    fraud = np.array([True, False, False, True, True, False, False, True, False])

    kept = handbook_filter(day * DAY_MS + 5, card, fraud, Fold(0))

    # Card 1 was known from training. Card 3's fraud of day 7 is known on day 15, not on day 14.
    assert kept.tolist() == [False, False, False, True, False, True, False, False, True]


def test_summary_names_every_figure() -> None:
    """The manifest's metrics come from one place."""
    figures = summarise(Scored(SCORE, FRAUD, np.zeros(5, np.int64), np.arange(5)))

    assert figures["frauds"] == 2
    assert {"ap", "auc", "cp100", "ece", "brier_skill", "recall_at_0.50%"} <= figures.keys()
