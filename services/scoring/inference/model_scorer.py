"""From numbers to verdicts: engine, calibration, thresholds and reasons, for many rows at once.

Axes: `n` rows, `T` sequence length, `C` channels, `F` the model's features.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.engines.protocol import Engine, FloatArray
from fraudstream.errors import FeatureSpecMismatch, Overloaded
from fraudstream.v1.decision_pb2 import StandInCause
from services.scoring.decision.feature_arrays import FeatureArrays, Layout
from services.scoring.decision.verdict import EngineTimes, Judged, Verdict, action_of, stand_in
from services.scoring.inference.batcher import Batcher, EngineRows
from services.scoring.inference.explainer import Explainer
from services.scoring.inference.served_model import Scored, ServedModel, find_columns
from services.scoring.reasons.explanation import Explanation
from services.scoring.reasons.occlusion import are_first
from services.scoring.reasons.texts import FIRST, FITS

# Features workers of two releases send two lists; more than a few is a mistake, not a cache.
_MAX_FEATURE_LISTS: Final = 16


class ModelJudge:
    """Judges rows with one model: its numbers, its engine and its explanations belong together.

    Wrap each call in `used`, so that the engine is closed only after the last one.
    """

    def __init__(self, model: ServedModel, engine: Engine, batcher: Batcher) -> None:
        self.model = model
        self.explainer = Explainer(model, engine, batcher)
        self._engine = engine
        self._batcher = batcher
        self._failed = replace(
            stand_in(StandInCause.STAND_IN_CAUSE_MODEL_FAILED), model_hash=model.model_hash
        )
        self._columns: dict[tuple[int, ...], npt.NDArray[np.intp]] = {}
        self._users = 0
        self._is_unused = asyncio.Event()
        self._is_unused.set()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep the engine open for as long as this holds."""
        self._users += 1
        self._is_unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._is_unused.set()

    async def close(self) -> None:
        """Give the engine back, once no call uses it and no batch of it runs. Takes no new call."""
        await self._is_unused.wait()
        await self._batcher.finish_batch()  # of a caller who gave up while it ran
        await asyncio.to_thread(self._engine.close)

    def columns_of(self, feature_hashes: tuple[int, ...]) -> npt.NDArray[np.intp]:
        """Return where the model's features stand in vectors of these features.

        Raises:
            FeatureSpecMismatch: The vectors lack a feature that the model needs.
        """
        columns = self._columns.get(feature_hashes)
        if columns is None:
            columns = find_columns(self.model, feature_hashes)
            if len(self._columns) >= _MAX_FEATURE_LISTS:
                self._columns.clear()
            self._columns[feature_hashes] = columns
        return columns

    async def judge(self, arrays: FeatureArrays, layout: Layout) -> Judged:
        """Return one verdict a row; a row without a finite score gets a stand-in.

        Raises:
            FeatureSpecMismatch: The model needs what is not there.
            Overloaded: Too many rows wait for the engine.
        """
        found, reads = layout.sequence_hash, self.model.sequence_hash
        if found != reads:
            raise FeatureSpecMismatch(f"sequence layout {found}, the model reads {reads}")
        # [n, F] of the model
        vectors = arrays.vectors[:, self.columns_of(layout.feature_hashes)]
        sequences = arrays.sequences
        answered = await self._batcher.score(self._engine, vectors, sequences)
        scored = self.model.scores(answered.raw_scores)
        why = await self._explain(vectors, sequences, scored)
        for row in np.flatnonzero(are_first(sequences)).tolist():
            why.setdefault(row, FIRST)
        verdicts = self._verdicts(answered, scored, why)
        return Judged(verdicts, EngineTimes(answered.started_us, answered.ended_us))

    async def score_when_idle(
        self, arrays: FeatureArrays, feature_hashes: tuple[int, ...]
    ) -> tuple[EngineRows, Scored]:
        """Return what the engine and the model say of rows that no decision waits for.

        Raises:
            FeatureSpecMismatch: The model needs what is not there.
        """
        vectors = arrays.vectors[:, self.columns_of(feature_hashes)]
        answered = await self._batcher.score_when_idle(self._engine, vectors, arrays.sequences)
        return answered, self.model.scores(answered.raw_scores)

    def _verdicts(
        self, answered: EngineRows, scored: Scored, why: dict[int, Explanation]
    ) -> list[Verdict]:
        model, failed = self.model, self._failed
        numbers = zip(
            scored.scores.tolist(),
            scored.raw_scores.tolist(),
            answered.buckets.tolist(),
            answered.versions,
            scored.is_sound.tolist(),
            strict=True,
        )
        return [
            Verdict(
                action_of(score, model.thresholds),
                score,
                raw_score,
                why.get(row, FITS),
                bucket,
                version,
                model_hash=model.model_hash,
            )
            if sound
            else failed
            for row, (score, raw_score, bucket, version, sound) in enumerate(numbers)
        ]

    async def _explain(
        self, vectors: FloatArray, sequences: FloatArray, scored: Scored
    ) -> dict[int, Explanation]:
        """Return why rows were flagged, by position: estimated where no person will look.

        A challenge is the cardholder's to answer; a review or decline is measured, if the engine
        has the time now.
        """
        thresholds, scores = self.model.thresholds, scored.scores.tolist()
        flagged = [index for index, score in enumerate(scores) if score >= thresholds.challenge]
        if not flagged:
            return {}
        estimated = self.explainer.estimate(vectors[flagged])
        found = dict(zip(flagged, estimated, strict=True))
        looked_at = [index for index in flagged if scores[index] >= thresholds.review]
        if not looked_at or self.explainer.is_busy:
            return found
        with suppress(Overloaded):
            measured = await self.explainer.measure(
                vectors[looked_at], sequences[looked_at], scored.raw_scores[looked_at].tolist()
            )
            found |= zip(looked_at, measured, strict=True)
        return found
