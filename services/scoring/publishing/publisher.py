"""Publish recorded decisions with their alerts and accepted rows, and settle the outbox.

Topics: decisions.made, alerts.raised and (for what came by gRPC) transactions.accepted, all keyed
by card token and written to the partition of the card's shard. Delivery is at least once: a
consumer keeps the first decision of an identity. An entry leaves the outbox only after every row
of it is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fraudstream.broker.clients import OutRecord
from fraudstream.runtime.crashpoint import crash_point
from fraudstream.settings import KafkaSettings
from fraudstream.store.shard import RecordAnswer, RecordRow, ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.telemetry.metrics import ALERTS
from fraudstream.telemetry.trace_context import TRACEPARENT, TraceContext
from fraudstream.topics import ACCEPTED, DECISIONS, STAND_INS
from fraudstream.topics import ALERTS as ALERTS_TOPIC
from fraudstream.transaction.actions import needs_person
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.rescore_pb2 import StandIn
from services.scoring.decision.message import accepted_row
from services.scoring.decision.recorded import Written
from services.scoring.publishing.alert import build_alert


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One decision on its way to the log.

    Attributes:
        row: As it was recorded.
        card_token: Key of its records.
        span: Trace context for their headers.
        alert: The serialised alert; empty where no person is needed, or where it comes later.
        is_late: Whether its alert waits for measured reasons.
        accepted: The serialised accepted row; empty for what came from the log.
    """

    row: RecordRow
    card_token: str
    span: TraceContext
    alert: bytes
    is_late: bool
    accepted: bytes


class Producer(Protocol):
    """Sends records of one topic; returns when all are acknowledged."""

    async def send(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Send the records.

        Raises:
            BrokerUnavailable: Not all of them are known to be acknowledged.
        """


def outgoing_of(decision: Decision, row: RecordRow, span: TraceContext) -> Outgoing:
    """Return what has to be published for a decision.

    A decision without log coordinates came by gRPC: its transaction goes to the accepted topic
    too, with the decision that it was given.
    """
    is_of_log = decision.HasField("coordinates")
    is_alert = needs_person(decision)
    is_late = is_alert and decision.reasons_estimated
    return Outgoing(
        row=row,
        card_token=decision.card_token,
        span=span,
        alert=build_alert(decision).SerializeToString() if is_alert and not is_late else b"",
        is_late=is_late,
        accepted=b"" if is_of_log else accepted_row(decision.transaction, row.value),
    )


class Publisher:
    """Writes decisions to the log and settles them.

    Args:
        producer: Sends records.
        outbox: Where decisions are until they are settled.
        kafka: Names the topics.
        late: Takes decisions that are published but for their alerts, which wait for reasons.
    """

    def __init__(
        self,
        producer: Producer,
        outbox: StateStore,
        kafka: KafkaSettings,
        late: Callable[[ShardRef, Sequence[Outgoing]], None],
    ) -> None:
        self._producer = producer
        self._outbox = outbox
        self._late = late
        self._in_flight: dict[int, Mapping[ShardRef, Sequence[Outgoing]]] = {}
        self._decisions = kafka.topic(DECISIONS)
        self._alerts = kafka.topic(ALERTS_TOPIC)
        self._accepted = kafka.topic(ACCEPTED)
        self._stand_ins = kafka.topic(STAND_INS)

    async def publish(self, by_shard: Mapping[ShardRef, Sequence[Outgoing]]) -> None:
        """Publish decisions of some shards, wait until all are acknowledged, settle them.

        One whose alert waits for its reasons is settled when that is published too. All shards
        share a request to the broker a topic: a request costs as much as twenty records.

        Raises:
            BrokerUnavailable: Not all are known to be acknowledged; they stay in the outbox.
            OnlineStoreUnavailable: They are published; the outbox will show them again.
        """
        self._in_flight[id(by_shard)] = by_shard
        try:
            await self._publish(by_shard)
        finally:
            del self._in_flight[id(by_shard)]

    def in_flight(self) -> Iterator[tuple[ShardRef, Outgoing]]:
        """Yield what is being published now."""
        for by_shard in self._in_flight.values():
            yield from _rows_of(by_shard)

    async def _publish(self, by_shard: Mapping[ShardRef, Sequence[Outgoing]]) -> None:
        rows = list(_rows_of(by_shard))
        alerts = [record_of(shard, row, row.alert) for shard, row in rows if row.alert]
        batches = (
            (self._decisions, [record_of(shard, row, row.row.value) for shard, row in rows]),
            (self._alerts, alerts),
            (
                self._accepted,
                [record_of(shard, row, row.accepted) for shard, row in rows if row.accepted],
            ),
        )
        await asyncio.gather(
            *(self._producer.send(topic, records) for topic, records in batches if records)
        )
        ALERTS.inc(len(alerts))
        crash_point("scoring.after_publish")
        for shard, sent in by_shard.items():
            self._late(shard, [row for row in sent if row.is_late])
        settled = {
            shard: [row.row for row in sent if not row.is_late] for shard, sent in by_shard.items()
        }
        await asyncio.gather(
            *(self._outbox.settle_published(shard, sent) for shard, sent in settled.items() if sent)
        )

    async def publish_stand_ins(
        self, partition: int, stand_ins: Sequence[tuple[StandIn, TraceContext]]
    ) -> None:
        """Publish stand-in decisions that a model has to score later.

        Raises:
            BrokerUnavailable: Not all are known to be acknowledged.
        """
        records = [
            _record(stand_in.decision.card_token, stand_in.SerializeToString(), partition, span)
            for stand_in, span in stand_ins
        ]
        if records:
            await self._producer.send(self._stand_ins, records)

    async def publish_provisional(self, partition: int, rows: Sequence[Written]) -> None:
        """Publish the accepted rows that carry decisions which no store could record.

        Raises:
            BrokerUnavailable: Not all are known to be acknowledged.
        """
        records = [
            _record(
                row.decision.card_token,
                accepted_row(row.decision.transaction, row.row.value),
                partition,
                row.subject.span,
            )
            for row in rows
        ]
        await self._producer.send(self._accepted, records)


def _rows_of(
    by_shard: Mapping[ShardRef, Sequence[Outgoing]],
) -> Iterator[tuple[ShardRef, Outgoing]]:
    return ((shard, row) for shard, sent in by_shard.items() for row in sent)


def record_of(shard: ShardRef, row: Outgoing, value: bytes) -> OutRecord:
    """Return a record about a decision, with its trace, for the partition of its card."""
    return _record(row.card_token, value, shard.partition, row.span)


def _record(card_token: str, value: bytes, partition: int, span: TraceContext) -> OutRecord:
    headers = [(TRACEPARENT, span.traceparent().encode())]
    return OutRecord(card_token.encode(), value, partition, headers)


def existing_outgoing(row: Written, answer: RecordAnswer) -> Outgoing:
    """Return what has to be published for a row whose decision existed already."""
    stored = RecordRow(row.row.identity, row.row.digest, answer.value, row.row.offset)
    return outgoing_of(Decision.FromString(answer.value), stored, row.subject.span)
