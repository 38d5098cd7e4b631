"""Run a protocol: each model learns each fold from scratch, is calibrated on late rows and tested.

Scores are kept fold by fold, so that a run that was cut off goes on where it was. Cost: that of the
trainers; at any time one fold's slices are in memory beside the material.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fraudstream.models.calibration import Calibration
from training.evaluation.figures.cost import CostModel, cost_curve
from training.evaluation.figures.operating import threshold_of_budget
from training.evaluation.figures.outcomes import Outcomes
from training.evaluation.figures.segments import Trait
from training.evaluation.figures.traits import traits_of
from training.evaluation.folds import TestedFold
from training.evaluation.kept_scores import KeptScores, key_of
from training.evaluation.material import Material
from training.evaluation.trainers import Ensemble, FoldTask, RawScores, Report, Trainer
from training.metrics import Bools, Floats, Ints, average_precision
from training.train.fit_calibration import fit_calibration

# Of all transactions; what an operating threshold may flag, judged on the tune rows.
OPERATING_BUDGET = 0.005


@dataclass(frozen=True, slots=True)
class Entry:
    """The models of a run.

    Attributes:
        trainers: In the order of the tables.
        ensembles: Combinations of them, after them.
        costs: What mistakes cost; decides the threshold of least cost.
    """

    trainers: Sequence[Trainer]
    ensembles: Sequence[Ensemble]
    costs: CostModel

    @property
    def names(self) -> list[str]:
        """Return the models' names in the order of the tables."""
        trained = [trainer.name for trainer in self.trainers]
        return trained + [ensemble.name for ensemble in self.ensembles]


@dataclass(frozen=True, slots=True)
class TestedRows:
    """What a fold was tested on.

    Attributes:
        fold: First day of the test.
        outcomes: Of the N tested rows.
        traits: Of the same rows.
        is_card_known: bool [N], of a card with a fraud known when the row came.
        scheme: int64 [N], fraud scheme; None where nobody knows.
        learned: Rows that the final fit learned from, and the frauds among them.
    """

    fold: str
    outcomes: Outcomes
    traits: Sequence[Trait]
    is_card_known: Bools
    scheme: Ints | None
    learned: tuple[int, int]


@dataclass(frozen=True, slots=True)
class FoldScores:
    """One model's scores of one fold.

    Attributes:
        raw: float64 [N], of the tested rows.
        score: float64 [N], calibrated.
        calibration: Fitted to the tune slice.
        threshold: Calibrated score that flags the operating budget of the tune rows.
        cheapest: Calibrated score of least cost on the tune rows.
    """

    raw: Floats
    score: Floats
    calibration: Calibration
    threshold: float
    cheapest: float


@dataclass(frozen=True, slots=True)
class Run:
    """All scores of a run, by model, in the order of the folds."""

    tested: Sequence[TestedRows]
    scores: dict[str, list[FoldScores]]


def run_folds(
    material: Material,
    folds: Iterable[TestedFold],
    entry: Entry,
    kept: KeptScores | None,
    report: Report,
) -> Run:
    """Score every fold by every model.

    Args:
        material: What the folds are cut from.
        folds: In time order.
        entry: The models.
        kept: Where scores are kept between runs; None for nowhere.
        report: Told of every step.
    """
    tested: list[TestedRows] = []
    scores: dict[str, list[FoldScores]] = {name: [] for name in entry.names}
    for fold in folds:
        raw: dict[str, RawScores] = {}
        for trainer in entry.trainers:
            raw[trainer.name] = _score(trainer, material.fingerprint, fold, (kept, report))
        for ensemble in entry.ensembles:
            raw[ensemble.name] = ensemble.combine(raw)
            _tell(report, fold, ensemble.name, raw[ensemble.name])
        for name, found in raw.items():
            scores[name].append(_calibrated(found, fold, entry.costs))
        tested.append(_tested_rows(material, fold))
    return Run(tested, scores)


def _score(
    trainer: Trainer, fingerprint: str, fold: TestedFold, edges: tuple[KeptScores | None, Report]
) -> RawScores:
    """Return a trainer's scores of a fold, kept or new."""
    kept, report = edges
    key = key_of(trainer, fingerprint, fold.slices)
    found = kept.find(trainer.name, fold.name, key) if kept else None
    if found is not None:
        _tell(report, fold, trainer.name, found, "kept")
        return found
    began = time.monotonic()
    state = kept.state_of(key) if kept else None
    made = trainer.scores(FoldTask(fold.slices, report, state))
    if kept and state:
        kept.keep(trainer.name, fold.name, key, made)
        shutil.rmtree(state, ignore_errors=True)
    _tell(report, fold, trainer.name, made, f"{time.monotonic() - began:.0f} s")
    return made


def _tell(report: Report, fold: TestedFold, name: str, raw: RawScores, how: str = "") -> None:
    ap = average_precision(raw.test, fold.slices.test.is_fraud)
    report(f"fold {fold.name}  {name:<20} AP {ap:.4f}  {how}".rstrip())


def _calibrated(raw: RawScores, fold: TestedFold, costs: CostModel) -> FoldScores:
    tune = fold.slices.tune
    calibration = fit_calibration(raw.tune, tune.is_fraud)
    tuned = calibration.scores(raw.tune)
    return FoldScores(
        raw=raw.test,
        score=calibration.scores(raw.test),
        calibration=calibration,
        threshold=threshold_of_budget(tuned, OPERATING_BUDGET),
        cheapest=cost_curve(tuned, Outcomes.of(tune), costs).best,
    )


def _tested_rows(material: Material, fold: TestedFold) -> TestedRows:
    whole = fold.slices.whole
    return TestedRows(
        fold=fold.name,
        outcomes=Outcomes.of(fold.slices.test),
        traits=traits_of(material, fold.tested, fold.trained),
        is_card_known=material.is_card_known[fold.tested],
        scheme=None if material.scheme is None else material.scheme[fold.tested],
        learned=(len(whole), int(np.sum(whole.is_fraud))),
    )
