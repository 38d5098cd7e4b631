"""Whether a score of 0.3 means three in ten: log loss, and score against fraud by bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.metrics import (
    ECE_BINS,
    Bools,
    Floats,
    brier_skill,
    expected_calibration_error,
)

_EDGE: Final = 1e-12  # a certain score that is wrong would cost without bound


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well scores are probabilities.

    Attributes:
        brier: Mean squared difference from the truth.
        brier_skill: 1 - Brier / Brier of always saying the prevalence.
        log_loss: Mean negative log-likelihood, nats.
        ece: Mean gap of score and fraud share over 15 bins of equal mass.
        in_the_large: Mean score / fraud share; 1 is right.
    """

    brier: float
    brier_skill: float
    log_loss: float
    ece: float
    in_the_large: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of about one score.

    Attributes:
        rows: How many.
        frauds: How many of them are fraud.
        mean_score: What the scores promise.
        fraud_share: What came.
    """

    rows: int
    frauds: int
    mean_score: float
    fraud_share: float


def log_loss(score: Floats, is_fraud: Bools) -> float:
    """Return the mean negative log-likelihood, nats.

    >>> round(log_loss(np.array([0.5, 0.5]), np.array([True, False])), 6)
    0.693147
    """
    sure = np.clip(score, _EDGE, 1 - _EDGE)
    return float(-np.mean(np.where(is_fraud, np.log(sure), np.log1p(-sure))))


def reliability(score: Floats, is_fraud: Bools) -> Reliability:
    """Return how well scores in [0, 1] are probabilities."""
    frauds = float(is_fraud.mean())
    return Reliability(
        brier=float(np.mean((score - is_fraud) ** 2)),
        brier_skill=brier_skill(score, is_fraud),
        log_loss=log_loss(score, is_fraud),
        ece=expected_calibration_error(score, is_fraud),
        in_the_large=float(score.mean()) / frauds if frauds else float("nan"),
    )


def reliability_bins(score: Floats, is_fraud: Bools, bins: int = ECE_BINS) -> list[Bin]:
    """Return the bins of equal mass that ECE is made of, from the lowest scores up."""
    parts = np.array_split(np.argsort(score, kind="stable"), min(bins, len(score)))
    return [
        Bin(
            rows=len(part),
            frauds=int(is_fraud[part].sum()),
            mean_score=float(score[part].mean()),
            fraud_share=float(is_fraud[part].mean()),
        )
        for part in parts
    ]
