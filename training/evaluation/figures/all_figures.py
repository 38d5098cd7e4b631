"""All figures of one model: what tables, JSON, report and model card show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fraudstream.models.psi import Psi
from training.evaluation.figures.bootstrap import Interval
from training.evaluation.figures.cost import Cost
from training.evaluation.figures.detection import DetectionDelay
from training.evaluation.figures.operating import OperatingPoint
from training.evaluation.figures.reliability import Reliability
from training.evaluation.figures.segments import SegmentFigures, Worst


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well the scores of one fold rank, by themselves.

    Attributes:
        fold: First day of the test.
        rows: Tested.
        frauds: Among them.
        ap: Average precision.
        auc: Area under the ROC curve.
        cp100: Card Precision@100.
        card_recall100: Card recall@100.
        brier_skill: After calibration.
        ece: After calibration.
    """

    fold: str
    rows: int
    frauds: int
    ap: float
    auc: float
    cp100: float
    card_recall100: float
    brier_skill: float
    ece: float


@dataclass(frozen=True, slots=True)
class CostFigures:
    """What the threshold of least cost, chosen on validation rows, costs on the tested rows.

    Attributes:
        threshold: Calibrated score, mean over the folds; None where a fold flags nothing.
        alerts: Flagged rows.
        cost: By what it is made of.
        nothing_minor: Cost of flagging nothing: all fraud passes.
        saved_share: Share of that which the model saves.
    """

    threshold: float | None
    alerts: int
    cost: Cost
    nothing_minor: int
    saved_share: float


@dataclass(frozen=True, slots=True)
class SchemeRecall:
    """How much of one fraud scheme is flagged at the operating threshold."""

    scheme: str
    frauds: int
    recall: float


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """All figures of one model. Rates are shares, money is reference minor units.

    Attributes:
        name: In tables.
        folds: Ranking of each fold.
        ap: Mean average precision over the folds.
        ap_interval: Its 95 % interval, by card.
        versus: AP minus that of boosting, with its interval; None for boosting itself.
        before: Reliability of the raw scores, pooled.
        after: The same of the calibrated scores.
        operating: At the operating threshold.
        budgets: At the alert budgets.
        rates: At the false-positive rates.
        cost: At the threshold of least cost.
        delay: How late cards are noticed, at the operating threshold.
        segments: At the operating threshold.
        worst: Worst segment of each trait.
        new_catches: At the operating threshold, cards not known as compromised only.
        known_cards: The same of known cards; None where there are none.
        schemes: Recall by scheme, where schemes are known.
        score_psi: PSI of each fold's scores against the first fold's.
    """

    name: str
    folds: Sequence[Ranking]
    ap: float
    ap_interval: Interval
    versus: Interval | None
    before: Reliability
    after: Reliability
    operating: OperatingPoint
    budgets: Sequence[OperatingPoint]
    rates: Sequence[OperatingPoint]
    cost: CostFigures
    delay: DetectionDelay
    segments: Sequence[SegmentFigures]
    worst: Sequence[Worst]
    new_catches: OperatingPoint
    known_cards: OperatingPoint | None
    schemes: Sequence[SchemeRecall]
    score_psi: Sequence[Psi]

    def mean(self, figure: str) -> float:
        """Return the mean of a figure over the folds that have it: AP and AUC need frauds."""
        known = self._known(figure)
        return float(np.mean(known)) if known else float("nan")

    def std(self, figure: str) -> float:
        """Return the standard deviation of a figure over the folds, as the book gives it."""
        known = self._known(figure)
        return float(np.std(known)) if known else float("nan")

    def _known(self, figure: str) -> list[float]:
        """Return a figure of each fold with frauds, as far as it is a number."""
        found = [getattr(fold, figure) for fold in self.folds if fold.frauds]
        return [value for value in found if np.isfinite(value)]
