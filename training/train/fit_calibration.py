"""Fit a calibration and thresholds on rows that the model did not learn from."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraudstream.models.calibration import Calibration, Thresholds, log_of, log_of_rest
from training.metrics import Bools, Floats

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


class ThresholdRule(StrEnum):
    """How thresholds are chosen."""

    BUDGET = "budget"
    COST = "cost"
    SCORE = "score"


class ThresholdPlan(BaseModel):
    """From which calibrated scores on the action changes.

    Attributes:
        by: `budget`: the three numbers are shares of all transactions that reach each action at
            least. `cost`: what each action costs where the transaction is genuine, as a share of
            what a missed fraud costs. `score`: the scores themselves.
        challenge: Of challenges and all that is stricter.
        review: Of reviews and declines.
        decline: Of declines.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # At 0.8 % fraud about every second reviewed one is fraud, and declines are nearly all.
    by: ThresholdRule = ThresholdRule.BUDGET
    challenge: float = Field(default=0.02, gt=0, le=1_000)
    review: float = Field(default=0.008, gt=0, le=1_000)
    decline: float = Field(default=0.002, gt=0, le=1_000)

    @model_validator(mode="after")
    def _actions_are_in_order(self) -> Self:
        rising = (self.challenge, self.review, self.decline)
        if self.by is ThresholdRule.BUDGET:
            rising = rising[::-1]
        if list(rising) != sorted(rising):
            order = "falling" if self.by is ThresholdRule.BUDGET else "rising"
            msg = f"challenge, review, decline: expected {order} numbers where by is {self.by}"
            raise ValueError(msg)
        if self.by is not ThresholdRule.COST and max(rising) > 1:
            msg = f"challenge, review, decline: expected numbers up to 1 where by is {self.by}"
            raise ValueError(msg)
        return self


def choose_thresholds(score: Floats, plan: ThresholdPlan) -> Thresholds:
    """Return the scores from which on the action changes.

    Args:
        score: float64 [N], calibrated, of rows that the model did not learn from.
        plan: How to choose.
    """
    ranked = -np.sort(-score)

    def of(number: float) -> float:
        if plan.by is ThresholdRule.BUDGET:
            number = float(ranked[max(0, round(number * len(ranked)) - 1)])
        elif plan.by is ThresholdRule.COST:
            # Worth it where p x 1 > (1 - p) x number: fraud passed against a genuine one disturbed.
            number = number / (1 + number)
        return float(np.clip(number, 1e-9, 1.0))

    return Thresholds(
        challenge=of(plan.challenge), review=of(plan.review), decline=of(plan.decline)
    )
