"""A checked artefact in the form that scoring uses. Axes: `n` rows, `F` the model's features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.engines.protocol import FloatArray
from fraudstream.errors import FeatureSpecMismatch
from fraudstream.models.calibration import Thresholds
from services.scoring.reasons.estimate import Estimate
from services.scoring.reasons.occlusion import Occlusion


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model said of some rows.

    Attributes:
        raw_scores: float64 [n], as the engine gave them.
        scores: Calibrated, float64 [n]; NaN where the raw score is not sound.
        is_sound: bool [n]: the raw score is a number in [0, 1].
    """

    raw_scores: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    is_sound: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A checked artefact.

    Attributes:
        model_hash: Of its manifest and weights.
        feature_hashes: What its vector holds, in order.
        feature_names: The same for people.
        sequence_hash: Layout of the sequence that it reads.
        calibrate: Raw scores to calibrated ones in [0, 1], elementwise, float64; NaN to NaN.
        thresholds: Where the action changes.
        occlusions: Its reason groups.
        estimate: About what each group is worth.
    """

    model_hash: str
    feature_hashes: tuple[int, ...]
    feature_names: tuple[str, ...]
    sequence_hash: str
    calibrate: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
    thresholds: Thresholds
    occlusions: tuple[Occlusion, ...]
    estimate: Estimate

    def scores(self, raw_scores: FloatArray) -> Scored:
        """Return calibrated scores of raw ones, float32 [n]."""
        raw = raw_scores.astype(np.float64)
        is_sound = (raw >= 0) & (raw <= 1)  # false for NaN too
        return Scored(raw, np.where(is_sound, self.calibrate(raw), np.nan), is_sound)


def find_columns(model: ServedModel, feature_hashes: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Return where the model's features stand in vectors of these features, [F].

    Raises:
        FeatureSpecMismatch: The vectors lack a feature that the model needs.
    """
    indices = {number: index for index, number in enumerate(feature_hashes)}
    needed = zip(model.feature_names, model.feature_hashes, strict=True)
    missing = [f"{name} ({number:016x})" for name, number in needed if number not in indices]
    if missing:
        msg = f"the model needs features that the vectors do not have: {', '.join(missing)}"
        raise FeatureSpecMismatch(msg)
    return np.array([indices[number] for number in model.feature_hashes], np.intp)
