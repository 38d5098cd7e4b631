"""From numbers to verdicts: engine, calibration, thresholds and reasons, for many rows at once.

Axes: `n` rows, `T` sequence length, `C` channels, `F` the model's features.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from fraudstream.engines.protocol import FloatArray
from fraudstream.errors import FeatureSpecMismatch, Overloaded
from fraudstream.v1.decision_pb2 import StandInCause
from services.scoring.batcher import Batcher
from services.scoring.decide import Verdict, action_of, stand_in
from services.scoring.explain import Explainer
from services.scoring.explanation import Explanation
from services.scoring.feature_batch import FeatureArrays
from services.scoring.reasons import FITS_HABITS
from services.scoring.served import ServedModel, find_columns
from services.scoring.written import EngineTimes

_FITS: Final = Explanation((FITS_HABITS,))
# Features workers of two releases send two lists; more than a few is a mistake, not a cache.
_MAX_FEATURE_LISTS: Final = 16


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

    def __init__(self, model: ServedModel, batcher: Batcher, explainer: Explainer) -> None:
        self._model = model
        self._batcher = batcher
        self._explainer = explainer
        self._columns: dict[tuple[int, ...], npt.NDArray[np.intp]] = {}
        self.model_hash = model.model_hash

    def columns_of(self, feature_hashes: tuple[int, ...]) -> npt.NDArray[np.intp]:
        """Return where the model's features stand in vectors of these features.

        Raises:
            FeatureSpecMismatch: The vectors lack a feature that the model needs.
        """
        columns = self._columns.get(feature_hashes)
        if columns is None:
            columns = find_columns(self._model, feature_hashes)
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
        why = await self._explain(vectors, sequences, raw, np.where(is_sound, scores, -1.0))
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
                why.get(row, _FITS),
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
        raw_scores: npt.NDArray[np.float64],
        scores: npt.NDArray[np.float64],
    ) -> dict[int, Explanation]:
        """Return why rows were flagged, by position: estimated where no person will look.

        A challenge is the cardholder's to answer; a review or decline is measured, if the engine
        has the time now.
        """
        thresholds = self._model.thresholds
        flagged = np.flatnonzero(scores >= thresholds.challenge)
        if not len(flagged):
            return {}
        estimated = self._explainer.estimate(vectors[flagged])
        found = dict(zip(flagged.tolist(), estimated, strict=True))
        looked_at = flagged[scores[flagged] >= thresholds.review]
        if not len(looked_at) or self._explainer.is_busy:
            return found
        with suppress(Overloaded):
            measured = await self._explainer.measure(
                vectors[looked_at], sequences[looked_at], raw_scores[looked_at].tolist()
            )
            found |= zip(looked_at.tolist(), measured, strict=True)
        return found
