"""Fit a calibration and thresholds on rows that the model did not learn from."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.calibration import Calibration, Thresholds, log_of, log_of_rest
from training.evaluation.metrics import Bools, Floats

# Shares of all transactions that reach each action at least. At 0.8 % fraud about every second
# reviewed one is fraud, and declines are nearly all.
DECLINE_BUDGET: Final = 0.002
REVIEW_BUDGET: Final = 0.008
CHALLENGE_BUDGET: Final = 0.02

_STEPS: Final = 100
_ENOUGH: Final = 1e-9
# Raw scores are odds at the true prevalence already, so the fit leans towards no change, as if
# slopes were known to within 1 and the shift to within 1.4: a few frauds change little, a hundred
# have their say. On the Handbook's validation folds that gives every model its least calibration
# error (LSTM 0.00097; 0.00127 where slopes are held to within 0.2) for 0.001 of Brier skill.
_SLOPE_WEIGHT: Final = 1.0
_SHIFT_WEIGHT: Final = 0.5


def fit_calibration(raw_score: Floats, is_fraud: Bools) -> Calibration:
    """Return the beta calibration that fits best, or Platt's where a slope would not be positive.

    Args:
        raw_score: float64 [N], in [0, 1].
        is_fraud: bool [N].
    """
    rising, falling = log_of(raw_score), -log_of_rest(raw_score)
    a, b, c = _fit_logistic(np.stack([rising, falling], axis=1), is_fraud)
    if a > 0 and b > 0:
        return Calibration(kind="beta", a=a, b=b, c=c)
    slope, intercept = _fit_logistic((rising + falling)[:, None], is_fraud)
    if slope <= 0:  # worse than chance: say the prevalence, but keep the order
        return Calibration(kind="platt", a=1e-6, b=1e-6, c=_log_odds(is_fraud))
    return Calibration(kind="platt", a=slope, b=slope, c=intercept)


def _log_odds(is_fraud: Bools) -> float:
    share = (is_fraud.sum() + 0.5) / (len(is_fraud) + 1.0)
    return float(np.log(share / (1 - share)))


def _fit_logistic(inputs: NDArray[np.float64], is_fraud: Bools) -> list[float]:
    """Return slopes and shift of a logistic regression, by damped Newton steps."""
    design = np.column_stack([inputs, np.ones(len(inputs))])
    weights = _no_change(design.shape[1])
    ridge = np.full(design.shape[1], _SLOPE_WEIGHT)
    ridge[-1] = _SHIFT_WEIGHT
    loss = _loss(design, is_fraud, weights, ridge)
    for _ in range(_STEPS):
        score = 1.0 / (1.0 + np.exp(-design @ weights))
        gradient = design.T @ (score - is_fraud) + ridge * (weights - _no_change(len(weights)))
        spread = np.maximum(score * (1 - score), 1e-12)
        curvature = (design * spread[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        while (tried := _loss(design, is_fraud, weights - step, ridge)) > loss + _ENOUGH:
            step = step / 2
        weights, gain, loss = weights - step, loss - tried, tried
        if gain < _ENOUGH:
            break
    return [float(weight) for weight in weights]


def _no_change(size: int) -> NDArray[np.float64]:
    """Return slopes of one and a shift of zero."""
    return np.append(np.ones(size - 1), 0.0)


def _loss(
    design: NDArray[np.float64], is_fraud: Bools, weights: NDArray[np.float64], ridge: Floats
) -> float:
    logit = design @ weights
    penalty = 0.5 * float(ridge @ (weights - _no_change(len(weights))) ** 2)
    return float(np.sum(np.logaddexp(0.0, logit) - logit * is_fraud)) + penalty


def choose_thresholds(score: Floats) -> Thresholds:
    """Return the scores that the stated budgets reach on these rows."""
    ranked = -np.sort(-score)

    def reached(budget: float) -> float:
        return float(np.clip(ranked[max(0, round(budget * len(ranked)) - 1)], 1e-9, 1.0))

    return Thresholds(
        challenge=reached(CHALLENGE_BUDGET),
        review=reached(REVIEW_BUDGET),
        decline=reached(DECLINE_BUDGET),
    )
