"""From numbers to verdicts: engine, calibration, thresholds and reasons, for many rows at once.

Axes: `n` rows, `G` reason groups, `T` sequence length, `C` channels, `F` the model's features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from fraudstream.calibration import Thresholds
from fraudstream.engines.protocol import FloatArray
from fraudstream.errors import FeatureSpecMismatch, Overloaded
from fraudstream.v1.decision_pb2 import Reason, StandInCause
from services.scoring.batcher import Batcher, EngineRows
from services.scoring.decide import Verdict, action_of, stand_in
from services.scoring.feature_batch import FeatureArrays
from services.scoring.reasons import (
    FITS_HABITS,
    Occlusion,
    contributions_of,
    occlude_rows,
    reasons_of,
    unexplained,
)
from services.scoring.written import EngineTimes

_FITS: Final = (FITS_HABITS,)
# Features workers of two releases send two lists; more than a few is a mistake, not a cache.
_MAX_FEATURE_LISTS: Final = 16


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A checked artefact, in the form that scoring uses.

    Attributes:
        model_hash: Of its manifest and weights.
        feature_hashes: What its vector holds, in order.
        feature_names: The same for people.
        sequence_hash: Layout of the sequence that it reads.
        calibrate: Raw scores to calibrated ones, elementwise, float64.
        thresholds: Where the action changes.
        occlusions: Its reason groups.
    """

    model_hash: str
    feature_hashes: tuple[int, ...]
    feature_names: tuple[str, ...]
    sequence_hash: str
    calibrate: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
    thresholds: Thresholds
    occlusions: tuple[Occlusion, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdicts in the order of the rows, and when the engine worked on them."""

    verdicts: list[Verdict]
    engine: EngineTimes


class Judge(Protocol):
    """What turns the numbers of some rows into verdicts."""

    @property
    def model_hash(self) -> str:
        """Return the model that judges; empty for none."""
        ...

    async def judge(
        self, arrays: FeatureArrays, feature_hashes: tuple[int, ...], sequence_hash: str
    ) -> Judged:
        """Return one verdict a row.

        Raises:
            FeatureSpecMismatch: The model needs what is not there.
            Overloaded: Too many rows wait for the engine.
        """
        ...


class AbsentModel:
    """Stands where no model is: every row gets a stand-in decision."""

    model_hash = ""

    async def judge(
        self,
        arrays: FeatureArrays,
        feature_hashes: tuple[int, ...],  # noqa: ARG002  # any features will do
        sequence_hash: str,  # noqa: ARG002  # and any sequence
    ) -> Judged:
        """Return a stand-in for each row."""
        verdict = stand_in(StandInCause.STAND_IN_CAUSE_MODEL_NOT_LOADED)
        return Judged([verdict] * len(arrays.vectors), EngineTimes())


class ModelJudge:
    """Judges rows with one model behind one batcher."""

    def __init__(self, model: ServedModel, batcher: Batcher) -> None:
        self._model = model
        self._batcher = batcher
        self._columns: dict[tuple[int, ...], npt.NDArray[np.intp]] = {}
        self.model_hash = model.model_hash

    def columns_of(self, feature_hashes: tuple[int, ...]) -> npt.NDArray[np.intp]:
        """Return where the model's features stand in vectors of these features.

        Raises:
            FeatureSpecMismatch: The vectors lack a feature that the model needs.
        """
        columns = self._columns.get(feature_hashes)
        if columns is None:
            columns = _find_columns(self._model, feature_hashes)
            if len(self._columns) >= _MAX_FEATURE_LISTS:
                self._columns.clear()
            self._columns[feature_hashes] = columns
        return columns

    async def judge(
        self, arrays: FeatureArrays, feature_hashes: tuple[int, ...], sequence_hash: str
    ) -> Judged:
        """Return one verdict a row; a row without a finite score gets a stand-in.

        Raises:
            FeatureSpecMismatch: The model needs what is not there.
            Overloaded: Too many rows wait for the engine.
        """
        if sequence_hash != self._model.sequence_hash:
            msg = f"sequence layout {sequence_hash}, the model reads {self._model.sequence_hash}"
            raise FeatureSpecMismatch(msg)
        vectors = arrays.vectors[:, self.columns_of(feature_hashes)]  # [n, F] of the model
        sequences = arrays.sequences
        answered = await self._batcher.score(vectors, sequences)
        raw = answered.raw_scores.astype(np.float64)
        is_sound = (raw >= 0) & (raw <= 1)  # false for NaN too
        scores = np.clip(self._model.calibrate(np.where(is_sound, raw, 0.5)), 0.0, 1.0)
        is_flagged = is_sound & (scores >= self._model.thresholds.challenge)
        reasons = await self._explain(vectors, sequences, answered, np.flatnonzero(is_flagged))
        numbers = zip(
            scores.tolist(),
            raw.tolist(),
            answered.buckets.tolist(),
            answered.versions,
            is_sound.tolist(),
            strict=True,
        )
        verdicts = [
            Verdict(
                action_of(score, self._model.thresholds),
                score,
                raw_score,
                reasons.get(row, _FITS),
                bucket,
                version,
            )
            if sound
            else stand_in(StandInCause.STAND_IN_CAUSE_MODEL_FAILED)
            for row, (score, raw_score, bucket, version, sound) in enumerate(numbers)
        ]
        return Judged(verdicts, EngineTimes(answered.started_us, answered.ended_us))

    async def _explain(
        self,
        vectors: FloatArray,
        sequences: FloatArray,
        answered: EngineRows,
        flagged: npt.NDArray[np.intp],
    ) -> dict[int, tuple[Reason, ...]]:
        """Return the reasons of the flagged rows, by position.

        With a full queue the rows are decided without them: an answer is worth more than its why.
        """
        occlusions = self._model.occlusions
        if not len(flagged):
            return {}
        if not occlusions:
            return dict.fromkeys(flagged.tolist(), unexplained())
        occluded = occlude_rows(vectors[flagged], sequences[flagged], occlusions)
        try:
            found = await self._batcher.score(*occluded)
        except Overloaded:
            return dict.fromkeys(flagged.tolist(), unexplained())
        contributions = contributions_of(
            answered.raw_scores[flagged],
            found.raw_scores.reshape(len(flagged), len(occlusions)),  # [flagged, G]
        )
        return {
            row: reasons_of(moved, occlusions)
            for row, moved in zip(flagged.tolist(), contributions.tolist(), strict=True)
        }


def _find_columns(model: ServedModel, feature_hashes: tuple[int, ...]) -> npt.NDArray[np.intp]:
    places = {number: place for place, number in enumerate(feature_hashes)}
    needed = zip(model.feature_names, model.feature_hashes, strict=True)
    missing = [f"{name} ({number:016x})" for name, number in needed if number not in places]
    if missing:
        msg = f"the model needs features that the vectors do not have: {', '.join(missing)}"
        raise FeatureSpecMismatch(msg)
    return np.array([places[number] for number in model.feature_hashes], np.intp)
