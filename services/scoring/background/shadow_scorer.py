"""Challengers that decide nothing score what was decided, off the hot path.

A decision is taken when it is recorded and its answer is certain. It is scored in the engine thread
when no row waits for a decision, in batches so small that one which comes meanwhile waits a
millisecond at most, and published to `decisions.shadowed.v1`, keyed by card token. At most once:
what does not fit here, because the engine has no time, is dropped and counted, and what waits when
the process ends is lost. Axes: `n` rows, `T` sequence length, `C` channels, `F` features.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from fraudstream.broker.clients import OutRecord
from fraudstream.errors import BrokerUnavailable
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_SET_HASH,
    SEQUENCE_HASH,
)
from fraudstream.settings import KafkaSettings
from fraudstream.telemetry.metrics import SHADOWED
from fraudstream.topics import SHADOWED as SHADOWED_TOPIC
from fraudstream.topics import partition_of
from fraudstream.v1.decision_pb2 import Decision, ShadowScore
from services.scoring.decision.feature_arrays import FeatureArrays
from services.scoring.decision.message import Subject
from services.scoring.decision.verdict import action_of
from services.scoring.inference.line_up import LineUpJudge
from services.scoring.inference.model_scorer import ModelJudge
from services.scoring.publishing.backlog import Backlog
from services.scoring.publishing.publisher import Producer

# One millisecond of an LSTM 2 x 64 on one core.
_ROWS: Final = 8
# Records of one send.
_ROUND: Final = 64
# Some 8 MB, and some seconds of a scorer that is half busy.
_LONGEST: Final = 8_192

_LOG = logging.getLogger(__name__)


class _Waiting:
    """A decision that was made, with what the model saw."""

    __slots__ = ("decided_by", "score", "sequence", "vector")

    def __init__(self, subject: Subject, decision: Decision) -> None:
        self.vector = subject.vector
        self.sequence = subject.sequence
        self.decided_by = decision.model_hash
        self.score = ShadowScore(
            decision_id=decision.decision_id,
            bank_id=decision.bank_id,
            transaction_id=decision.transaction_id,
            card_token=decision.card_token,
            event_time_ms=decision.event_time_ms,
            cpu_class=decision.cpu_class,
        )


class ShadowScorer(Backlog[_Waiting]):
    """Scores decisions with the challengers of the line-up."""

    def __init__(
        self, judge: LineUpJudge, producer: Producer, kafka: KafkaSettings, partitions: int
    ) -> None:
        super().__init__("shadow scores", _LONGEST)
        self._judge = judge
        self._producer = producer
        self._topic = kafka.topic(SHADOWED_TOPIC)
        self._partitions = partitions

    def add(self, decided: Iterable[tuple[Subject, Decision]]) -> None:
        """Take decisions if there are challengers; what does not fit is dropped and counted."""
        if not self._judge.line_up.shadows:
            return
        readable = [pair for pair in decided if _is_readable(*pair)]
        dropped = max(len(readable) - self._room, 0)
        self._take(_Waiting(*pair) for pair in readable)
        if dropped:
            SHADOWED.labels("dropped").inc(dropped)

    async def _work(self) -> int:
        scores: list[ShadowScore] = []
        finished = 0
        while (taken := self._first(_ROWS, finished)) and len(scores) < _ROUND:
            finished += len(taken)
            for judge in self._judge.line_up.shadows:
                scores += await _scores_of(judge, taken)
        if scores:
            await self._publish(scores)
        return finished

    async def _publish(self, scores: Sequence[ShadowScore]) -> None:
        keys = [score.card_token.encode() for score in scores]
        records = [
            OutRecord(key, score.SerializeToString(), partition_of(key, self._partitions))
            for key, score in zip(keys, scores, strict=True)
        ]
        try:
            await self._producer.send(self._topic, records)
        except BrokerUnavailable as exc:
            _LOG.warning("%d shadow scores are lost: %s", len(records), exc)
            SHADOWED.labels("failed").inc(len(records))
        else:
            SHADOWED.labels("scored").inc(len(records))


def _is_readable(subject: Subject, decision: Decision) -> bool:
    """Whether a decision has features, and of this release's catalogue."""
    hashes = (decision.feature_set_hash, decision.sequence_hash)
    return bool(subject.vector) and hashes == (FEATURE_SET_HASH, SEQUENCE_HASH)


async def _scores_of(judge: ModelJudge, taken: Sequence[_Waiting]) -> list[ShadowScore]:
    """Return what a challenger says of decisions, but for those that it made itself."""
    others = [each for each in taken if each.decided_by != judge.model.model_hash]
    if not others:
        return []
    arrays = FeatureArrays.joined(
        [each.vector for each in others], [each.sequence for each in others]
    )
    with judge.used():
        answered, scored = await judge.score_when_idle(arrays, FEATURE_HASHES)
    found = []
    for index in np.flatnonzero(scored.is_sound).tolist():
        score = ShadowScore()
        score.CopyFrom(others[index].score)
        score.model_hash = judge.model.model_hash
        score.score = float(scored.scores[index])
        score.raw_score = float(scored.raw_scores[index])
        score.action = action_of(score.score, judge.model.thresholds)
        score.engine_version = answered.versions[index]
        score.batch_bucket = int(answered.buckets[index])
        found.append(score)
    SHADOWED.labels("failed").inc(len(others) - len(found))
    return found
