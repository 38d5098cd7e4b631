"""Bootstrap by card, against repeated rows and cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.figures.bootstrap import (
    Draws,
    Truth,
    ap_by_card,
    auc_by_card,
    bootstrap,
    brier_by_card,
    mean_of,
    paired_bootstrap,
    recall_by_card,
)
from training.metrics import average_precision, roc_auc

SCORE = np.array([0.9, 0.8, 0.8, 0.6, 0.5, 0.5])
TRUTH = Truth(np.array([True, False, True, False, False, True]), np.array([0, 0, 1, 2, 1, 2]))
DRAWN = np.array([2, 0, 3])  # card 0 twice, card 1 not at all, card 2 three times


def _repeated() -> tuple[np.ndarray, np.ndarray]:
    times = DRAWN[TRUTH.card]
    return np.repeat(SCORE, times), np.repeat(TRUTH.is_fraud, times)


def test_a_drawn_card_counts_as_if_its_rows_were_repeated() -> None:
    """AP, AUC and Brier by counts are those of a table in which each row stands so often."""
    score, is_fraud = _repeated()

    assert ap_by_card(SCORE, TRUTH)(DRAWN) == pytest.approx(average_precision(score, is_fraud))
    assert auc_by_card(SCORE, TRUTH)(DRAWN) == pytest.approx(roc_auc(score, is_fraud))
    assert brier_by_card(SCORE, TRUTH)(DRAWN) == pytest.approx(np.mean((score - is_fraud) ** 2))


def test_recall_at_a_budget_counts_drawn_rows() -> None:
    """Ten drawn rows, five frauds; the highest 40 % are card 0's two frauds and genuine rows."""
    assert recall_by_card(0.4)(SCORE, TRUTH)(DRAWN) == pytest.approx(2 / 5)


def test_a_draw_without_fraud_has_no_figure() -> None:
    """Such a draw is left out and told by the number of rounds; it is not zero."""
    lone = Truth(np.array([True, False]), np.array([0, 1]))

    found = bootstrap(ap_by_card(np.array([0.9, 0.1]), lone), 2, Draws(rounds=200))

    assert (found.estimate, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.rounds < 200


def test_rows_of_one_card_widen_the_interval() -> None:
    """A hundred rows of ten cards say less than those of a hundred cards."""
    rng = np.random.default_rng(3)
    is_fraud = np.repeat(rng.random(10) < 0.5, 10)
    is_fraud[:20] = np.repeat([True, False], 10)
    score = np.repeat(rng.random(10), 10) + 1e-3 * rng.random(100)
    few = bootstrap(auc_by_card(score, Truth(is_fraud, np.repeat(np.arange(10), 10))), 10, Draws())
    many = bootstrap(auc_by_card(score, Truth(is_fraud, np.arange(100))), 100, Draws())

    assert few.high - few.low > 1.5 * (many.high - many.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    """A report is reproducible to the byte, its intervals too."""
    first = paired_bootstrap(SCORE, -SCORE, TRUTH, draws=Draws(50, seed=7))

    assert first == paired_bootstrap(SCORE, -SCORE, TRUTH, draws=Draws(50, seed=7))


def test_a_model_does_not_differ_from_itself() -> None:
    """Both are measured on the same draws, so chance of the draw cancels."""
    found = paired_bootstrap(SCORE, SCORE, TRUTH)

    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)
    assert not found.is_above_zero


def test_a_little_better_is_not_above_zero_but_much_better_is() -> None:
    """With forty frauds a small gap of AP is noise; the interval says so."""
    rng = np.random.default_rng(1)
    is_fraud = np.arange(4_000) < 40
    truth = Truth(is_fraud, np.arange(4_000))
    base = rng.normal(size=4_000) + 2.0 * is_fraud
    close = base + 0.02 * rng.normal(size=4_000)
    far = base + 2.0 * is_fraud

    assert not paired_bootstrap(close, base, truth, draws=Draws(300)).is_above_zero
    assert paired_bootstrap(far, base, truth, draws=Draws(300)).is_above_zero


def test_card_numbers_need_not_be_dense() -> None:
    """Cards may be hashes: what counts is which rows share one."""
    sparse = Truth(TRUTH.is_fraud, TRUTH.card * 1_000_003 - 5)

    found = paired_bootstrap(SCORE, -SCORE, sparse, draws=Draws(50))

    assert found == paired_bootstrap(SCORE, -SCORE, TRUTH, draws=Draws(50))


def test_mean_over_folds_draws_each_card_for_all_folds() -> None:
    """A card in two folds is drawn for both; the mean is that of the folds' figures."""
    both = mean_of([ap_by_card(SCORE, TRUTH), ap_by_card(-SCORE, TRUTH)])

    expected = (ap_by_card(SCORE, TRUTH)(DRAWN) + ap_by_card(-SCORE, TRUTH)(DRAWN)) / 2
    assert both(DRAWN) == pytest.approx(expected)
