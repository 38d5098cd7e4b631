"""How far features, scores and calibration have moved from a reference to now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.models.psi import DriftLevel, Psi, psi_of
from training.drift.observed import Observed
from training.evaluation.figures.bootstrap import Draws, Interval, Statistic, Truth, bootstrap
from training.metrics import Floats, Ints, expected_calibration_error

SCORE: Final = "score"
# Mean score / fraud share, either way, and only where chance does not explain it. A quarter is what
# segments are flagged at, too.
CALIBRATION_WATCH: Final = 1.1
CALIBRATION_ALARM: Final = 1.25
_ROUNDS: Final = 500


@dataclass(frozen=True, slots=True)
class Moved:
    """One quantity: a feature, or the score."""

    name: str
    psi: Psi


@dataclass(frozen=True, slots=True)
class CalibrationDrift:
    """Whether scores are still probabilities, on rows whose labels would have arrived.

    Attributes:
        rows: Matured rows.
        frauds: Among them.
        ratio: Mean score / fraud share, with its 95 % interval by card; 1 is right.
        ece: Expected calibration error.
    """

    rows: int
    frauds: int
    ratio: Interval
    ece: float

    @property
    def level(self) -> DriftLevel:
        """Return what to do about it."""
        found = self.ratio
        if not (found.low > 1 or found.high < 1):
            return DriftLevel.STABLE
        off = max(found.estimate, 1 / found.estimate) if found.estimate > 0 else np.inf
        if off < CALIBRATION_WATCH:
            return DriftLevel.STABLE
        return DriftLevel.ALARM if off > CALIBRATION_ALARM else DriftLevel.WATCH


@dataclass(frozen=True, slots=True)
class Drift:
    """What moved.

    Attributes:
        reference: Name of the reference, and its rows.
        current: The same of now.
        moved: Features and score, what moved most first.
        calibration: None without labels, scores or frauds.
    """

    reference: tuple[str, int]
    current: tuple[str, int]
    moved: Sequence[Moved]
    calibration: CalibrationDrift | None

    @property
    def level(self) -> DriftLevel:
        """Return the highest level of all."""
        levels = {each.psi.level for each in self.moved}
        if self.calibration is not None:
            levels.add(self.calibration.level)
        order = (DriftLevel.ALARM, DriftLevel.WATCH)
        return next((level for level in order if level in levels), DriftLevel.STABLE)


def measure_drift(reference: Observed, current: Observed) -> Drift:
    """Return what moved from a reference to now; bins are the reference's."""
    moved = [
        Moved(name, psi_of(reference.vectors[:, index], current.vectors[:, index]))
        for index, name in enumerate(FEATURE_NAMES)
    ]
    before, now = _known(reference.score), _known(current.score)
    if len(before) and len(now):
        moved.append(Moved(SCORE, psi_of(before, now)))
    return Drift(
        reference=(reference.name, len(reference)),
        current=(current.name, len(current)),
        moved=sorted(moved, key=lambda each: -each.psi.psi),
        calibration=_calibration(current),
    )


def _known(score: Floats | None) -> Floats:
    return np.zeros(0) if score is None else score[~np.isnan(score)]


def _calibration(current: Observed) -> CalibrationDrift | None:
    if current.score is None or current.truth is None:
        return None
    kept = current.is_matured & ~np.isnan(current.score)
    score, is_fraud = current.score[kept], current.truth.is_fraud[kept]
    if not is_fraud.any():
        return None
    names, card = np.unique(current.truth.card[kept], return_inverse=True)
    statistic = _in_the_large(score, Truth(is_fraud, card.astype(np.int64)))
    return CalibrationDrift(
        rows=len(score),
        frauds=int(is_fraud.sum()),
        ratio=bootstrap(statistic, len(names), Draws(_ROUNDS)),
        ece=expected_calibration_error(score, is_fraud),
    )


def _in_the_large(score: Floats, truth: Truth) -> Statistic:
    """Return mean score / fraud share as a function of drawn cards."""
    promised = np.bincount(truth.card, score)
    came = np.bincount(truth.card, truth.is_fraud)

    def measure(drawn: Ints) -> float:
        # Not `@`: BLAS may start threads for it, which takes longer than the sum.
        frauds = float(np.sum(drawn * came))
        return float(np.sum(drawn * promised)) / frauds if frauds else float("nan")

    return measure
