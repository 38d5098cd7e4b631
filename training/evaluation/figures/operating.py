"""What flagging some rows gives: at an alert budget, at a false-positive rate, at a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from training.evaluation.figures.outcomes import Outcomes
from training.metrics import Bools, Floats

_TIES_SEED: Final = 9
FALSE_POSITIVE_RATES: Final = (0.001, 0.005, 0.01)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What flagging some rows gives.

    Attributes:
        level: The alert budget or FPR that was asked for, a share.
        threshold: Lowest flagged score; None where nothing is flagged.
        alerts: Flagged rows.
        caught: Frauds among them.
        precision: Frauds among the flagged; 0 where nothing is flagged.
        recall: Flagged among the frauds.
        fpr: Flagged among the genuine rows.
        value_detected: Flagged share of the fraudulent amount.
    """

    level: float
    threshold: float | None
    alerts: int
    caught: int
    precision: float
    recall: float
    fpr: float
    value_detected: float


def flag_budget(score: Floats, budget: float) -> Bools:
    """Return which rows an alert budget flags: the highest share.

    Of equal scores that the budget cuts through some are drawn, the same each time: in the order of
    the rows, a score that knows nothing would find what the first days have.

    >>> flag_budget(np.array([0.1, 0.9, 0.5, 0.2]), 0.5).tolist()
    [False, True, True, False]
    """
    flagged = np.zeros(len(score), np.bool_)
    drawn = np.random.default_rng(_TIES_SEED).permutation(len(score))
    flagged[drawn[np.argsort(-score[drawn], kind="stable")[: round(budget * len(score))]]] = True
    return flagged


def flag_fpr(score: Floats, is_fraud: Bools, fpr: float) -> Bools:
    """Return the rows at or above the lowest score at which FPR is not over `fpr`.

    >>> fraud = np.array([True, False, True, False, False])
    >>> flag_fpr(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), fraud, 1 / 3).tolist()
    [True, True, True, False, False]
    """
    genuine = -np.sort(-score[~is_fraud])
    allowed = int(fpr * len(genuine) + 1e-9)
    if allowed >= len(genuine):
        return np.ones(len(score), np.bool_)
    return np.asarray(score > genuine[allowed])


def point_of(level: float, score: Floats, flagged: Bools, outcomes: Outcomes) -> OperatingPoint:
    """Return what flagging these rows gives."""
    is_fraud = outcomes.is_fraud
    alerts, frauds = int(flagged.sum()), int(is_fraud.sum())
    caught = int((flagged & is_fraud).sum())
    value = int(outcomes.amount_minor[is_fraud].sum())
    return OperatingPoint(
        level=level,
        threshold=float(score[flagged].min()) if alerts else None,
        alerts=alerts,
        caught=caught,
        precision=caught / max(1, alerts),
        recall=caught / max(1, frauds),
        fpr=(alerts - caught) / max(1, len(is_fraud) - frauds),
        value_detected=int(outcomes.amount_minor[is_fraud & flagged].sum()) / max(1, value),
    )


def threshold_of_budget(score: Floats, budget: float) -> float:
    """Return the lowest score from which on no more than `budget` of these rows are flagged.

    Infinity, which flags nothing, where even the highest score has more rows than that.

    >>> threshold_of_budget(np.array([0.1, 0.9, 0.5, 0.2]), 0.5)
    0.5
    >>> threshold_of_budget(np.array([0.1, 0.5, 0.5, 0.5]), 0.5)
    inf
    """
    ranked = -np.sort(-score)
    allowed = min(round(budget * len(ranked)), len(ranked))
    fits = ranked[:allowed]
    if allowed < len(ranked):
        fits = fits[fits > ranked[allowed]]
    return float(fits[-1]) if len(fits) else float("inf")
