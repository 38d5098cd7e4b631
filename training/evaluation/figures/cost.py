"""What a threshold costs: fraud that passes, reviews, and customers declined for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.evaluation.figures.outcomes import Outcomes
from training.metrics import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class CostModel:
    """What a bank says its mistakes cost; a bank that evaluates gives its own numbers.

    Attributes:
        review_minor: Cost of one alert, reference minor units. The default is ten minutes of an
            analyst at 30.00 an hour.
        friction: Cost of a genuine flagged payment, as a share of its amount: customers who are
            refused pay otherwise, or leave.
    """

    review_minor: int = 500
    friction: float = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """What flagging some rows costs, reference minor units.

    Attributes:
        missed_minor: Amount of the frauds that are not flagged.
        review_minor: Alerts times the cost of a review.
        friction_minor: Flagged genuine amount times the friction.
    """

    missed_minor: int
    review_minor: int
    friction_minor: int

    @property
    def total_minor(self) -> int:
        """Return the sum."""
        return self.missed_minor + self.review_minor + self.friction_minor


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Cost of each possible threshold, from flagging nothing (infinity) down.

    Attributes:
        threshold: float64 [D + 1], falling; rows at or above one are flagged.
        cost_minor: float64 [D + 1].
    """

    threshold: Floats
    cost_minor: Floats

    @property
    def best(self) -> float:
        """Return the threshold of least cost, the highest of several; infinity flags nothing."""
        return float(self.threshold[np.argmin(self.cost_minor)])


def cost_of(flagged: Bools, outcomes: Outcomes, model: CostModel) -> Cost:
    """Return what flagging these rows costs."""
    amount, is_fraud = outcomes.amount_minor, outcomes.is_fraud
    return Cost(
        missed_minor=int(amount[is_fraud & ~flagged].sum()),
        review_minor=int(flagged.sum()) * model.review_minor,
        friction_minor=round(float(amount[flagged & ~is_fraud].sum()) * model.friction),
    )


def cost_curve(score: Floats, outcomes: Outcomes, model: CostModel) -> CostCurve:
    """Return the cost of every threshold; choose on validation rows, report on others."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    is_last = np.append(ranked[1:] != ranked[:-1], True)[: len(order)]
    change = _change_by_flagging(outcomes, model)[order]
    nothing = float(outcomes.amount_minor[outcomes.is_fraud].sum())
    return CostCurve(
        threshold=np.append(np.inf, ranked[is_last]),
        cost_minor=nothing + np.append(0.0, np.cumsum(change)[is_last]),
    )


def _change_by_flagging(outcomes: Outcomes, model: CostModel) -> Floats:
    """Return by how much the cost changes with each row that is flagged, float64 [N]."""
    amount: Ints = outcomes.amount_minor
    return model.review_minor + np.where(outcomes.is_fraud, -amount, amount * model.friction)
