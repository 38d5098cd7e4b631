"""What can be evaluated: a trainer learns from a fold's slices and scores the later ones.

The baselines that are always shown stand here, the models of the configurations in `registry.py`.
A trainer never sees the test's labels, and its calibration is fitted elsewhere,
to the scores that it gives rows which it did not learn from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fraudstream.engines.members import Formula
from training.dataset import Examples
from training.metrics import Floats
from training.train.slices import Slices

Report = Callable[[str], None]
# Raw scores of examples, float64 [N], in [0, 1].
Scorer = Callable[[Examples], Floats]

_LEAST_SPREAD: Final = 1e-6  # below it a column is constant, but for rounding
PREVALENCE: Final = "prevalence"
AMOUNT_RULE: Final = "amount rule"
LOGISTIC: Final = "logistic regression"
BOOSTING: Final = "boosting"
ENSEMBLE: Final = "ensemble"


@dataclass(frozen=True, slots=True)
class RawScores:
    """Raw scores of a fold's later slices, float64, in [0, 1], before calibration.

    Attributes:
        tune: Of `Slices.tune`, by a fit that learned from `Slices.fit` only.
        test: Of `Slices.test`, by the final fit to `Slices.whole`.
    """

    tune: Floats
    test: Floats


@dataclass(frozen=True, slots=True)
class FoldTask:
    """What a trainer is given.

    Attributes:
        slices: Of the fold.
        report: Told how it goes.
        folder: Where this very fit may keep its state, to go on after a stop; None for nowhere.
    """

    slices: Slices
    report: Report
    folder: Path | None = None


class Trainer(Protocol):
    """Learns each fold from scratch."""

    @property
    def name(self) -> str:
        """Return the model's name in tables."""
        ...

    @property
    def steps(self) -> int:
        """Return how many last steps of a sequence it reads; 1 for the row itself."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """Return all that decides its scores besides code and rows; seeds too."""
        ...

    @property
    def modules(self) -> Sequence[ModuleType]:
        """Return the modules whose code decides its scores: kept scores end with a change."""
        ...

    def scores(self, task: FoldTask) -> RawScores:
        """Learn from a fold's slices and return the scores of its later ones."""
        ...


def score_by_two_fits(fit: Callable[[Examples], Scorer], slices: Slices) -> RawScores:
    """Score the tune slice by a fit to `fit`, and the test by a fit to `whole`: one if the same."""
    first = fit(slices.fit)
    last = first if slices.whole is slices.fit else fit(slices.whole)
    return RawScores(tune=first(slices.tune), test=last(slices.test))


@dataclass(frozen=True, slots=True)
class PrevalenceTrainer:
    """Says the fraud share of what it learned from, of every row: what knowing nothing gives."""

    name: str = PREVALENCE
    steps: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)
    modules: tuple[ModuleType, ...] = ()

    def scores(self, task: FoldTask) -> RawScores:
        """Return one score for all rows."""
        return score_by_two_fits(_fit_prevalence, task.slices)


def _fit_prevalence(train: Examples) -> Scorer:
    share = float(train.is_fraud.mean())
    return lambda examples: np.full(len(examples), share)


@dataclass(frozen=True, slots=True)
class AmountTrainer:
    """The rule that every bank has: the larger the amount, the more suspicious."""

    name: str = AMOUNT_RULE
    steps: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)
    modules: tuple[ModuleType, ...] = ()

    def scores(self, task: FoldTask) -> RawScores:
        """Return amount / (amount + usual amount)."""
        return score_by_two_fits(_fit_amount, task.slices)


def _fit_amount(train: Examples) -> Scorer:
    usual = max(1.0, float(np.median(train.amount_minor)))
    return lambda examples: examples.amount_minor / (examples.amount_minor + usual)


@dataclass(frozen=True, slots=True)
class LogisticTrainer:
    """Logistic regression on signed logarithms of the features, scaled by the training rows.

    Attributes:
        inverse_penalty: Of squared weights; chosen on the validation folds.
    """

    name: str = LOGISTIC
    steps: int = 1
    inverse_penalty: float = 0.1
    modules: tuple[ModuleType, ...] = ()

    @property
    def settings(self) -> Mapping[str, object]:
        """Return the penalty."""
        return {"inverse_penalty": self.inverse_penalty}

    def scores(self, task: FoldTask) -> RawScores:
        """Fit and score."""
        return score_by_two_fits(self._fit, task.slices)

    def _fit(self, train: Examples) -> Scorer:
        scale = fit_scale(train.vectors)
        model = LogisticRegression(C=self.inverse_penalty, max_iter=2_000)
        model.fit(scale(train.vectors), train.is_fraud)
        return lambda examples: np.asarray(model.predict_proba(scale(examples.vectors))[:, 1])


def fit_scale(vectors: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], Floats]:
    """Return the scaling of some training rows, float32 [N, F]; a missing value becomes their mean.

    >>> fit_scale(np.zeros((2, 1), np.float32))(np.zeros((1, 1), np.float32)).tolist()
    [[0.0]]
    """
    logs = _signed_logs(vectors)
    known = np.isfinite(logs)
    count = known.sum(axis=0).clip(1)
    mean = np.where(known, logs, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, logs - mean, 0.0) ** 2).sum(axis=0) / count)
    spread[spread < _LEAST_SPREAD] = 1.0
    return lambda rows: np.nan_to_num((_signed_logs(rows) - mean) / spread)


def _signed_logs(vectors: NDArray[np.float32]) -> Floats:
    values = vectors.astype(np.float64)
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Members under the formula of the artefact; it learns nothing of its own.

    Attributes:
        members: Names of models that are evaluated too.
        formula: How their raw scores become one.
        name: In tables.
    """

    members: tuple[str, ...]
    formula: Formula
    name: str = ENSEMBLE

    def combine(self, raw: Mapping[str, RawScores]) -> RawScores:
        """Return the scores of the ensemble from those of its members."""
        found = [raw[name] for name in self.members]
        return RawScores(
            tune=self.formula.combine([each.tune for each in found]).astype(np.float64),
            test=self.formula.combine([each.test for each in found]).astype(np.float64),
        )


def baselines() -> list[Trainer]:
    """Return what every table shows before the models of the configurations."""
    return [PrevalenceTrainer(), AmountTrainer(), LogisticTrainer()]
