"""The features service's door: rows of one shard with their features, answered once published.

Order: rows come and go in log order. Guarantee: an answered row's decision is recorded and
acknowledged by the broker; a repeated row gets the decision that was recorded first. No state is
read. Budget: 60 microseconds a row beyond the engine, the store and the broker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fraudstream.errors import FraudStreamError, InvalidTransaction, ShardMoved
from fraudstream.reject_reasons import QuarantineReason, RejectReason
from fraudstream.runtime.crashpoint import crash_point
from fraudstream.store.shard import RecordAnswer, RecordOutcome, Role, ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.telemetry.metrics import FOREIGN_RATES, QUARANTINED
from fraudstream.topics import ACCEPTED, incarnation_of
from fraudstream.v1.decision_pb2 import Decision, LogCoordinates
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest
from services.scoring.background.metrics import Observer
from services.scoring.background.rescore_message import stand_in_of
from services.scoring.decision.feature_arrays import FeatureArrays, Layout
from services.scoring.decision.maker import DecisionMaker
from services.scoring.decision.message import Subject, wrap_results
from services.scoring.decision.recorded import Written, carried_row, result_of
from services.scoring.publishing.publisher import Publisher, existing_outgoing, outgoing_of
from services.scoring.rpc.rare_log import RareWarning
from services.scoring.stream.request import read_batch, read_subject

_LOG: Final = logging.getLogger(__name__)

_Answered = tuple[Written, RecordAnswer]


@dataclass(frozen=True, slots=True)
class StreamTerms:
    """Number of card shards, the other door's rate table, and the share of traces that is kept."""

    partitions: int
    rate_table: str
    sample_ratio: float


class StreamDoor:
    """Decides rows that the features service computed.

    Args:
        maker: Decides.
        observer: Takes what was decided.
        store: Records it.
        publisher: Publishes it.
        terms: Of the rows.
    """

    def __init__(
        self,
        maker: DecisionMaker,
        observer: Observer,
        store: StateStore,
        publisher: Publisher,
        terms: StreamTerms,
    ) -> None:
        self._maker = maker
        self._observer = observer
        self._store = store
        self._publisher = publisher
        self._terms = terms
        self._unsealed = RareWarning(_LOG, "%d rows bring decisions that scoring did not seal: %s")
        self._unrecorded = RareWarning(_LOG, "%d rows of the stream could not be recorded: %s")

    async def score_batch(self, request: FeatureBatchRequest) -> bytes:
        """Return the serialised `ScoreBatchResponse` of rows of one shard.

        Raises:
            InvalidTransaction: No row, too many, or a number that is none.
            FeatureSpecMismatch: The model needs features that are not there.
            ShardClosed: The marker is missing or another.
            ShardMoved: A row is below the shard's `next`: another worker was faster.
            OnlineStoreUnavailable: The store does not answer.
            BrokerUnavailable: Decisions are recorded but not acknowledged; send the rows again.
            Overloaded: Too many rows wait for the engine.
        """
        started_us = self._maker.clock_us()
        incarnation = incarnation_of(request.topic_id, self._terms.partitions)
        shard = ShardRef(Role.CARD, request.partition, incarnation, request.generation)
        arrays = read_batch(request, started_us // 1_000)
        layout = Layout.of(tuple(request.feature_hashes), request.sequence_hash)
        written = await self._decide(request, arrays, layout, started_us)
        (answers,) = await self._store.record_decisions([(shard, [row.row for row in written])])
        if isinstance(answers, FraudStreamError):
            self._unrecorded.say(len(written), answers)
            raise answers
        crash_point("scoring.after_record")
        pairs = list(zip(written, answers, strict=True))
        await asyncio.gather(
            self._publish(shard, pairs), self._keep_stand_ins(shard, layout, pairs)
        )
        if any(answer.outcome is RecordOutcome.APPLIED for answer in answers):
            msg = f"shard {request.partition} has moved past rows of this batch"
            raise ShardMoved(msg)
        decided = [
            (row.subject, row.decision)
            for row, answer in pairs
            if answer.outcome is RecordOutcome.RECORDED
        ]
        self._observer.observe(decided, len(pairs), started_us, self._maker.clock_us())
        return wrap_results([result_of(*pair) for pair in pairs])

    def _carried(
        self, request: FeatureBatchRequest, subjects: Sequence[Subject]
    ) -> dict[int, Written]:
        """Return the decisions that rows bring and scoring sealed, by index."""
        carried: dict[int, Written] = {}
        for index, (row, subject) in enumerate(zip(request.rows, subjects, strict=True)):
            if row.HasField("carried_decision"):
                found = carried_row(subject, row.carried_decision, self._maker.seal)
                if found is None:
                    QUARANTINED.labels(ACCEPTED.name, QuarantineReason.UNTRUSTED.value).inc()
                    fault = InvalidTransaction(RejectReason.WRITER, subject.identity.hex())
                    self._unsealed.say(1, fault)
                else:
                    carried[index] = found
        return carried

    async def _decide(
        self, request: FeatureBatchRequest, arrays: FeatureArrays, layout: Layout, started_us: int
    ) -> list[Written]:
        """Return a decision for each row: the one that it carries, else one of model and rules."""
        ratio = self._terms.sample_ratio
        subjects = [read_subject(row, ratio, started_us) for row in request.rows]
        # One row tells for its batch: ingest has one table at a time.
        if subjects and subjects[0].transaction.rate_table_version != self._terms.rate_table:
            FOREIGN_RATES.inc()
        written = self._carried(request, subjects)
        left = [index for index in range(len(subjects)) if index not in written]
        if left:
            log = LogCoordinates(topic_id=request.topic_id, partition=request.partition)
            decided = await self._maker.decide(
                [subjects[index] for index in left], arrays.select(left), layout, log
            )
            written |= zip(left, decided, strict=True)
        return [written[index] for index in range(len(subjects))]

    async def _publish(self, shard: ShardRef, pairs: Sequence[_Answered]) -> None:
        """Publish what was recorded now, and what a dead scorer recorded and did not publish."""
        existing = [pair for pair in pairs if pair[1].outcome is RecordOutcome.EXISTS]
        waiting = await self._store.outbox_identities(
            shard, [row.subject.identity for row, _ in existing]
        )
        outgoing = [
            outgoing_of(row.decision, row.row, row.subject.span)
            for row, answer in pairs
            if answer.outcome is RecordOutcome.RECORDED
        ]
        outgoing += [
            existing_outgoing(row, answer)
            for row, answer in existing
            if row.subject.identity in waiting
        ]
        if outgoing:
            await self._publisher.publish({shard: outgoing})

    async def _keep_stand_ins(
        self, shard: ShardRef, layout: Layout, pairs: Sequence[_Answered]
    ) -> None:
        """Publish what a model has to score later: here every row has its features."""
        stand_ins = [
            (stand_in_of(decision, row.subject, layout), row.subject.span)
            for row, decision in ((row, _decision_of(row, answer)) for row, answer in pairs)
            if decision is not None and decision.stand_in
        ]
        await self._publisher.publish_stand_ins(shard.partition, stand_ins)


def _decision_of(row: Written, answer: RecordAnswer) -> Decision | None:
    """Return the decision of a row, which may have been made before; None for a conflict."""
    if answer.outcome is RecordOutcome.RECORDED:
        return row.decision
    if answer.outcome is RecordOutcome.EXISTS:
        return Decision.FromString(answer.value)
    return None
