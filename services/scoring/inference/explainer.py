"""Explain flagged rows: measured by the engine where it has time, estimated at once where not.

A measured explanation asks the engine for at most 32 rows more. With more than `BUSY_ROWS` in its
queue an answer is worth more than its why: the row is decided with estimated reasons, and the alert
that follows carries measured ones. Explanations never take the room of decisions: half of the
queue, and what alerts ask runs when no decision waits. Axes: `B` rows, `G` groups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import numpy as np

from fraudstream.engines.protocol import Engine, FloatArray
from fraudstream.errors import Overloaded
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_LENGTH,
)
from fraudstream.v1.decision_pb2 import Decision
from services.scoring.decision.feature_arrays import FeatureArrays
from services.scoring.inference.batcher import MAX_WAITING_BATCHES, Batcher, EngineRows
from services.scoring.inference.served_model import ServedModel, find_columns
from services.scoring.reasons.explanation import Explanation
from services.scoring.reasons.occlusion import (
    MAX_GROUPS,
    Occlusion,
    blocks_of,
    read_answers,
    rows_asked,
)
from services.scoring.reasons.texts import reasons_of

# Four full batches: some 30 ms of an LSTM 2 x 64 on one core, a third of a usual deadline.
BUSY_ROWS: Final = 256
# How long a round of alerts waits for an engine that has nothing else to do.
_IDLE_S: Final = 1.0
# float32 each.
_VECTOR_BYTES: Final = 4 * len(FEATURE_HASHES)
_STEPS_BYTES: Final = 4 * SEQUENCE_LENGTH * len(SEQUENCE_CHANNELS)

_Ask = Callable[[Engine, FloatArray, FloatArray], Awaitable[EngineRows]]


class Explainer:
    """Explains rows of one model."""

    def __init__(self, model: ServedModel, engine: Engine, batcher: Batcher) -> None:
        self._model = model
        self._engine = engine
        self._batcher = batcher

    @property
    def is_busy(self) -> bool:
        """Whether the engine has no time for reasons now."""
        return self._batcher.waiting_rows > BUSY_ROWS

    def estimate(self, vectors: FloatArray) -> list[Explanation]:
        """Return explanations of rows without the engine, float32 [B, F] of the model."""
        estimated = self._model.estimate.contributions(vectors)  # [B, G]
        return [
            Explanation(reasons_of(moved, self._model.occlusions), is_estimated=True)
            for moved in estimated.tolist()
        ]

    async def measure(
        self, vectors: FloatArray, sequences: FloatArray, raw_scores: Sequence[float]
    ) -> list[Explanation]:
        """Return measured explanations of rows, float32 [B, F] of the model and [B, T, C].

        Raises:
            Overloaded: Too many rows wait for the engine, or would.
        """
        return await self._measure(vectors, sequences, raw_scores, self._ask_soon)

    async def _measure(
        self,
        vectors: FloatArray,
        sequences: FloatArray,
        raw_scores: Sequence[float],
        ask: _Ask,
    ) -> list[Explanation]:
        groups = [groups_to_ask(self._model, vector) for vector in vectors]
        asked = [rows_asked(*row) for row in zip(vectors, sequences, groups, strict=True)]
        ends = np.cumsum([len(rows) for rows, _ in asked])
        all_vectors = np.concatenate([rows for rows, _ in asked])
        answers = [np.empty(0, np.float32)] * len(asked)  # a first purchase, no groups: no question
        if len(all_vectors):
            all_sequences = np.concatenate([rows for _, rows in asked])
            answered = await ask(self._engine, all_vectors, all_sequences)
            answers = np.split(answered.raw_scores, ends[:-1])
        return [
            explanation_of(raw_score, answer, group, sequence)
            for raw_score, answer, group, sequence in zip(
                raw_scores, answers, groups, sequences, strict=True
            )
        ]

    async def _ask_soon(
        self, engine: Engine, vectors: FloatArray, sequences: FloatArray
    ) -> EngineRows:
        """Ask among the decisions: whoever is explained waits for it."""
        rows = self._batcher.waiting_rows + len(vectors)
        allowed = MAX_WAITING_BATCHES * engine.buckets[-1] // 2
        if rows > allowed:
            msg = f"{rows} rows would wait for the engine, explanations may make it {allowed}"
            raise Overloaded(msg)
        return await self._batcher.score(engine, vectors, sequences)

    async def measure_decisions(self, decisions: Sequence[Decision]) -> list[Explanation | None]:
        """Return measured explanations of decisions; None for another model's or catalogue's.

        They are measured when no decision waits for the engine.

        Raises:
            Overloaded: It has no time for them.
        """
        own = [index for index, decision in enumerate(decisions) if self._can_read(decision)]
        found: list[Explanation | None] = [None] * len(decisions)
        if not own:
            return found
        mine = [decisions[index] for index in own]
        columns = find_columns(self._model, FEATURE_HASHES)
        arrays = FeatureArrays.joined(
            [each.vector for each in mine], [each.sequence for each in mine]
        )
        raw_scores = [each.raw_score for each in mine]
        vectors, ask = arrays.vectors[:, columns], self._batcher.score_when_idle
        try:
            async with asyncio.timeout(0.0 if self.is_busy else _IDLE_S):
                explained = await self._measure(vectors, arrays.sequences, raw_scores, ask)
        except TimeoutError as exc:
            raise Overloaded("decisions keep the engine busy") from exc
        for index, explanation in zip(own, explained, strict=True):
            found[index] = explanation
        return found

    def _can_read(self, decision: Decision) -> bool:
        hashes = (decision.model_hash, decision.feature_set_hash, decision.sequence_hash)
        # What was swept from the store may lack its arrays: whoever writes there ends no scorer.
        has_arrays = (
            len(decision.vector) == _VECTOR_BYTES and len(decision.sequence) == _STEPS_BYTES
        )
        ours = (self._model.model_hash, FEATURE_SET_HASH, self._model.sequence_hash)
        return has_arrays and hashes == ours


def groups_to_ask(model: ServedModel, vector: FloatArray) -> list[Occlusion]:
    """Return the groups to ask the engine about: all, or those that most likely moved this row."""
    occlusions = model.occlusions
    if len(occlusions) <= MAX_GROUPS:
        return list(occlusions)
    likely = np.argsort(-np.abs(model.estimate.contributions(vector[None])[0]))
    return [occlusions[index] for index in sorted(likely[:MAX_GROUPS].tolist())]


def explanation_of(
    raw_score: float, answers: FloatArray, groups: Sequence[Occlusion], sequence: FloatArray
) -> Explanation:
    """Return what the engine's answers about one row say, of the groups that it was asked about."""
    measured = read_answers(raw_score, answers, len(groups), blocks_of(sequence))
    return Explanation(reasons_of(measured.contributions, groups), measured.past)
