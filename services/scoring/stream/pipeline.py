"""The features service's door: rows of one shard with their features, answered once published.

Order: rows come and go in log order. Guarantee: an answered row's decision is recorded and
acknowledged by the broker; a repeated row gets the decision that was recorded first. No state is
read. Budget: 60 microseconds a row beyond the engine, the store and the broker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from fraudstream.errors import FraudStreamError, InvalidTransaction, ShardMoved
from fraudstream.reject_reasons import QuarantineReason, RejectReason
from fraudstream.runtime.crashpoint import crash_point
from fraudstream.store.shard import RecordAnswer, RecordOutcome, Role, ShardRef
from fraudstream.telemetry.metrics import BATCH_ROWS, FOREIGN_RATES, QUARANTINED, STAGE_SECONDS
from fraudstream.topics import ACCEPTED, incarnation_of
from fraudstream.v1.decision_pb2 import Decision, LogCoordinates
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest
from services.scoring.after.rescore_message import stand_in_of
from services.scoring.after.shared_parts import DoorParts
from services.scoring.decision.apply_rules import apply_rules
from services.scoring.decision.message import EngineTimes, Subject, wrap_results, write_decision
from services.scoring.decision.recorded import Written, carried_row, result_of, written_row
from services.scoring.inference.feature_arrays import feature_set_hash
from services.scoring.inference.model_scorer import Judged
from services.scoring.publishing.publisher import existing_outgoing, outgoing_of
from services.scoring.rpc.rare_log import RareWarning
from services.scoring.stream.request import read_batch, read_subject

_LOG: Final = logging.getLogger(__name__)


class StreamDoor:
    """Decides rows that the features service computed.

    Args:
        parts: What both doors share.
        rate_table: Version of the table that converts the amounts of the other door.
    """

    def __init__(self, parts: DoorParts, rate_table: str) -> None:
        self._parts = parts
        self._rate_table = rate_table
        self._batch_rows = BATCH_ROWS.labels("scoring")
        self._seconds = STAGE_SECONDS.labels("scoring")
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
        started_us = self._parts.clock_us()
        incarnation = incarnation_of(request.topic_id, self._parts.partitions)
        shard = ShardRef(Role.CARD, request.partition, incarnation, request.generation)
        written = await self._decide(request, started_us)
        (answers,) = await self._parts.store.record_decisions(
            [(shard, [row.row for row in written])]
        )
        if isinstance(answers, FraudStreamError):
            self._unrecorded.say(len(written), answers)
            raise answers
        crash_point("scoring.after_record")
        await asyncio.gather(
            self._publish(shard, written, answers),
            self._keep_stand_ins(request, written, answers),
        )
        if any(answer.outcome is RecordOutcome.APPLIED for answer in answers):
            msg = f"shard {request.partition} has moved past rows of this batch"
            raise ShardMoved(msg)
        self._observe(written, answers, started_us)
        return wrap_results([result_of(*pair) for pair in zip(written, answers, strict=True)])

    def _carried(
        self, request: FeatureBatchRequest, subjects: Sequence[Subject]
    ) -> dict[int, Written]:
        """Return the decisions that rows bring and scoring sealed, by place."""
        carried: dict[int, Written] = {}
        for place, (row, subject) in enumerate(zip(request.rows, subjects, strict=True)):
            if row.HasField("carried_decision"):
                found = carried_row(subject, row.carried_decision, self._parts.seal)
                if found is None:
                    QUARANTINED.labels(ACCEPTED.name, QuarantineReason.UNTRUSTED.value).inc()
                    fault = InvalidTransaction(RejectReason.WRITER, subject.identity.hex())
                    self._unsealed.say(1, fault)
                else:
                    carried[place] = found
        return carried

    async def _decide(self, request: FeatureBatchRequest, started_us: int) -> list[Written]:
        """Return a decision for each row: the one that it carries, else one of model and rules."""
        arrays = read_batch(request, started_us // 1_000)
        hashes = tuple(request.feature_hashes)
        rows = request.rows
        subjects = [read_subject(row, self._parts.sample_ratio) for row in rows]
        # One row tells for its batch: ingest has one table at a time.
        if subjects and subjects[0].transaction.rate_table_version != self._rate_table:
            FOREIGN_RATES.inc()
        carried = self._carried(request, subjects)
        to_score = [place for place in range(len(rows)) if place not in carried]
        judged = Judged([], EngineTimes())
        if to_score:
            cards = [subjects[place].transaction.card_token for place in to_score]
            judged = await self._parts.judge.judge(
                arrays.select(to_score), cards, hashes, request.sequence_hash
            )
        program = self._parts.rules.program  # once a call: no answer comes from two versions
        verdicts = {
            place: apply_rules(
                program, subjects[place].transaction, verdict, arrays.vectors[place], hashes
            )
            for place, verdict in zip(to_score, judged.verdicts, strict=True)
        }
        template = self._parts.template(feature_set_hash(hashes), request.sequence_hash, started_us)
        template.rule_set_hash = program.hash
        template.coordinates.CopyFrom(
            LogCoordinates(topic_id=request.topic_id, partition=request.partition)
        )
        template.timings.scoring_ended_us = self._parts.clock_us()
        return [
            carried[place]
            if place in carried
            else written_row(
                subject,
                write_decision(template, subject, verdicts[place], judged.engine),
                self._parts.seal,
            )
            for place, subject in enumerate(subjects)
        ]

    async def _publish(
        self, shard: ShardRef, written: Sequence[Written], answers: Sequence[RecordAnswer]
    ) -> None:
        """Publish what was recorded now, and what a dead scorer recorded and did not publish."""
        pairs = list(zip(written, answers, strict=True))
        existing = [pair for pair in pairs if pair[1].outcome is RecordOutcome.EXISTS]
        waiting = await self._parts.store.outbox_identities(
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
            await self._parts.publisher.publish({shard: outgoing})

    async def _keep_stand_ins(
        self,
        request: FeatureBatchRequest,
        written: Sequence[Written],
        answers: Sequence[RecordAnswer],
    ) -> None:
        """Publish what a model has to score later: here every row has its features."""
        features = (tuple(request.feature_hashes), request.sequence_hash)
        decided = zip(written, answers, strict=True)
        stand_ins = [
            (stand_in_of(decision, row.subject, *features), row.subject.span)
            for row, decision in ((row, _decision_of(row, answer)) for row, answer in decided)
            if decision is not None and decision.stand_in
        ]
        await self._parts.publisher.publish_stand_ins(request.partition, stand_ins)

    def _observe(
        self, written: Sequence[Written], answers: Sequence[RecordAnswer], started_us: int
    ) -> None:
        ended_us = self._parts.clock_us()
        decided: list[tuple[Subject, Decision]] = []
        for row, answer in zip(written, answers, strict=True):
            if answer.outcome is RecordOutcome.RECORDED:
                decided.append((row.subject, row.decision))
        self._parts.observer.count([decision for _, decision in decided])
        self._parts.observer.write_spans(decided, started_us, ended_us)
        self._parts.shadows.add(decided)
        self._batch_rows.observe(len(written))
        self._seconds.observe((ended_us - started_us) / 1e6)


def _decision_of(row: Written, answer: RecordAnswer) -> Decision | None:
    """Return the decision of a row, which may have been made before; None for a conflict."""
    if answer.outcome is RecordOutcome.RECORDED:
        return row.decision
    if answer.outcome is RecordOutcome.EXISTS:
        return Decision.FromString(answer.value)
    return None
