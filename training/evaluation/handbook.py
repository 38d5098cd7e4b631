"""The Handbook's protocol: gradient boosting on our features, four test folds, the book's filter.

The settings were chosen on the four folds that end before the first test day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from training.dataset import Examples, examples_between
from training.evaluation.metrics import Fold, Scored, handbook_filter, summarise
from training.histories import DAY_MS, handbook_history
from training.models.boosting import BoostingPlan, boosting_scores, fit_boosting

Report = Callable[[str], None]
Figures = dict[str, float]

_FOLDS: Final = 4
_STEPS: Final = 1  # boosting reads the row itself, none before it
# Begin of the first training week: of the book's four test folds, and of those before them.
_FIRST_WEEK: Final = {"test": (2018, 7, 25), "validation": (2018, 6, 20)}


@dataclass(frozen=True, slots=True)
class FoldFigures:
    """The figures of each fold, and of all."""

    folds: Sequence[Figures]

    def mean(self, name: str) -> float:
        """Return the mean of a figure over the folds."""
        return float(np.mean([fold[name] for fold in self.folds]))

    def std(self, name: str) -> float:
        """Return the standard deviation of a figure over the folds, as the book gives it."""
        return float(np.std([fold[name] for fold in self.folds]))

    def summary(self) -> dict[str, object]:
        """Return what the command prints."""
        names = ("ap", "auc", "cp100", "brier_skill", "ece")
        return {
            "folds": list(self.folds),
            "mean": {name: round(self.mean(name), 4) for name in names},
            "std": {name: round(self.std(name), 4) for name in names},
        }


def folds_of(which: str) -> list[Fold]:
    """Return the folds of a set: `test` or `validation`.

    >>> len(folds_of("test"))
    4
    """
    begin = datetime(*_FIRST_WEEK[which], tzinfo=UTC)
    first_ms = int(begin.timestamp() * 1_000)
    return [Fold(first_ms + 7 * number * DAY_MS) for number in range(_FOLDS)]


def evaluate_boosting(path: Path, which: str, threads: int, report: Report) -> FoldFigures:
    """Fit boosting to the training week of each fold and measure it on the test week.

    Raises:
        InvalidSettings: The file is missing or lacks a column.
    """
    folds = folds_of(which)
    history = handbook_history(path)
    examples = examples_between(history, folds[0].train_from_ms, folds[-1].test_until_ms, _STEPS)
    report(f"{len(examples):,} rows with their features")
    figures = []
    for number, fold in enumerate(folds, start=1):
        found = _evaluate_fold(examples, fold, threads)
        report(
            f"fold {number}: AP {found['ap']:.4f} AUC {found['auc']:.4f}"
            f" CP@100 {found['cp100']:.3f}"
        )
        figures.append(found)
    return FoldFigures(figures)


def _evaluate_fold(examples: Examples, fold: Fold, threads: int) -> Figures:
    """Return the figures of one fold."""
    model = fit_boosting(
        examples.between(fold.train_from_ms, fold.train_until_ms),
        BoostingPlan(seed=0, threads=threads),
    )
    kept = handbook_filter(examples.event_time_ms, examples.card, examples.is_fraud, fold)
    tested = examples.where(kept)
    score = boosting_scores(model, tested)
    return summarise(Scored(score, tested.is_fraud, tested.event_time_ms, tested.card))
