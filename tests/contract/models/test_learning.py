"""Training finds what is there to find, and nothing that is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes.tiny_model import some_sequences, some_vectors
from training.metrics import average_precision

pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from training.dataset import Examples  # after the skip
from training.learning.fit import fit_network, raw_scores
from training.learning.lesson import Lesson
from training.models.plan import FitPlan
from training.models.scaling import NetworkKind, NetworkShape

F, ROWS, EARLY = 4, 3_000, 2_000
SHAPE = NetworkShape(features=F, hidden=16, layers=1, mcc_buckets=8)
PLAN = FitPlan(epochs=6, batch_rows=32, learning_rate=1e-2, genuine_share=0.5)


def examples_with(is_fraud: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Examples:
    """Return examples of those labels in which the amount one step ago tells fraud."""
    numbers = np.arange(ROWS, dtype=np.int64)
    sequences = some_sequences(ROWS)
    sequences[:, -2, 1] = 100.0
    sequences[:, -2, 0] = np.where(is_fraud, 80_000.0, 2_000.0)
    return Examples(some_vectors(ROWS, F), sequences, is_fraud, numbers, numbers, numbers, numbers)


def silently(_: str) -> None:
    """Drop progress lines."""


@pytest.fixture(scope="module")
def planted() -> Examples:
    """Examples with a signal in the sequence alone."""
    return examples_with(np.random.default_rng(1).random(ROWS) < 0.05)


@pytest.mark.parametrize("kind", NetworkKind)
def test_signal_in_the_sequence_is_found(planted: Examples, kind: NetworkKind) -> None:
    """Only an earlier step tells: a model without memory could not."""
    early, late = planted.between(0, EARLY), planted.between(EARLY, ROWS)
    fitted = fit_network(Lesson(early, late), replace(SHAPE, kind=kind), PLAN, silently)

    assert average_precision(raw_scores(fitted.network, late), late.is_fraud) > 0.95


@pytest.fixture(scope="module")
def confused() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and labels of later rows, after training with labels that belong to other rows."""
    shuffled = examples_with(np.random.default_rng(1).random(ROWS) < 0.05)
    np.random.default_rng(2).shuffle(shuffled.is_fraud)
    early, late = shuffled.between(0, EARLY), shuffled.between(EARLY, ROWS)
    fitted = fit_network(Lesson(early), SHAPE, replace(PLAN, epochs=3), silently)
    return raw_scores(fitted.network, late), late.is_fraud


def test_shuffled_labels_teach_nothing(
    confused: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    """Later rows rank like chance: AP = prevalence."""
    scores, is_fraud = confused

    assert average_precision(scores, is_fraud) == pytest.approx(is_fraud.mean(), abs=0.03)


def test_raw_scores_have_the_true_prevalence_though_rows_were_sampled(
    confused: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> None:
    """Half of the genuine rows are left out of each epoch; the graph puts the odds right again."""
    scores, is_fraud = confused

    assert scores.mean() == pytest.approx(is_fraud.mean(), rel=0.35)


def test_same_seed_gives_the_same_network(planted: Examples) -> None:
    """Training is reproducible on one machine."""
    early = planted.between(0, 1_000)
    plan = FitPlan(epochs=1, batch_rows=128)
    fitted = [fit_network(Lesson(early), SHAPE, plan, silently) for _ in range(2)]
    scores = [raw_scores(each.network, early) for each in fitted]

    assert scores[0].tobytes() == scores[1].tobytes()
