"""Send counted rows on, keyed by their shared entities, and tell idle shards how far we are.

One producer, in log order, acknowledged before the state write. An entity shard skips what is not
above its mark of the source, so a batch that is sent again counts nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from aiokafka import ConsumerRecord

from fraudstream.broker.clients import BatchProducer, OutRecord
from fraudstream.broker.topic_info import Log
from fraudstream.features.catalogue import SHARED_ENTITIES, Entity
from fraudstream.features.entity_kernel import bucket_width_ms
from fraudstream.features.stored_values import (
    ENTITY_OF_KIND,
    KIND_OF_ENTITY,
    SHARED_FIELDS,
    entity_key,
    log_key,
)
from fraudstream.store.entity_reader import SharedView
from fraudstream.topics import partition_of
from fraudstream.transaction.identity import identity_of
from fraudstream.v1.features_pb2 import EntityRow, EntityRowKind
from fraudstream.v1.label_pb2 import Disposition, Label
from fraudstream.v1.transaction_pb2 import TransactionKind
from services.features.rows.accepted_rows import AcceptedRow
from services.features.rows.card_batch import CardBatch

_LOOK_S: Final = 1.0
# A reader asks of a watermark only whether a bucket is closed: within the narrowest bucket a later
# beat says nothing new. Each costs a record for every pair of partitions.
_BUCKET_MS: Final = min(bucket_width_ms(entity) for entity in SHARED_ENTITIES)
_SETTLED: Final = (Disposition.DISPOSITION_CONFIRMED_FRAUD, Disposition.DISPOSITION_GENUINE)
_PURCHASE: Final = TransactionKind.TRANSACTION_KIND_PURCHASE
_TRANSACTION: Final = EntityRowKind.ENTITY_ROW_KIND_TRANSACTION
# A mark of one source offset knows kinds by number, so rows of one record go in that order.
_IN_ORDER: Final = sorted(
    enumerate(SHARED_ENTITIES), key=lambda numbered: KIND_OF_ENTITY[numbered[1]]
)

_SHARED_IN_ORDER: Final = [
    (number, entity) for number, entity in _IN_ORDER if entity is not Entity.CARD
]


class EntityRowSender:
    """Writes `entities.keyed.v1`.

    Args:
        producer: A started producer.
        entities: The entities topic.
        source: The log that the rows come from.
        now_ms: Time of a source that is read to its end; None where only its records tell time.
    """

    def __init__(
        self,
        producer: BatchProducer,
        entities: Log,
        source: Log,
        now_ms: Callable[[], int] | None,
    ) -> None:
        self._producer = producer
        self._entities = entities
        self._source = source
        self._now_ms = now_ms
        self._times_ms: dict[int, int] = {}
        self._told_buckets: dict[int, int] = {}
        self._looked_at_s = 0.0

    def forget_all(self) -> None:
        """Forget how far the sources are: the assignment is another."""
        self._times_ms.clear()
        self._told_buckets.clear()

    async def send(self, batch: CardBatch) -> None:
        """Send the rows of a batch's shared entities. Only purchases count there.

        Raises:
            BrokerUnavailable: Not all were acknowledged; the batch must not be written.
        """
        rows = [
            record
            for row, is_unusual in zip(batch.rows, batch.unusual.tolist(), strict=True)
            if row.accepted.transaction.kind == _PURCHASE
            for record in self._records_of(row, bool(is_unusual), batch.shared)
        ]
        await self._producer.send(self._entities.name, rows)
        partition = batch.shard.partition
        newest_ms = max(row.record.timestamp for row in batch.rows)
        self._times_ms[partition] = max(self._times_ms.get(partition, 0), newest_ms)

    async def send_labels(self, labels: Sequence[tuple[Label, ConsumerRecord]]) -> None:
        """Send labels to their entities; one that is undetermined says nothing.

        Raises:
            BrokerUnavailable: Not all were acknowledged.
        """
        rows = [
            self._out(row)
            for label, record in labels
            for row in label_rows(label, self._source, record)
        ]
        await self._producer.send(self._entities.name, rows)

    async def beat(self, positions: Mapping[int, int], busy: set[int]) -> None:
        """Look once a second whether entity shards must hear how far the sources are.

        Args:
            positions: Position of each source that is well.
            busy: Sources that hold, or just held, unread records: the clock says nothing of them.
        """
        if time.monotonic() - self._looked_at_s < _LOOK_S:
            return
        self._looked_at_s = time.monotonic()
        await self.tell(positions, busy)

    async def tell(self, positions: Mapping[int, int], busy: set[int]) -> None:
        """Tell every entity shard how far each source is, once for each bucket of time."""
        beats, buckets = [], {}
        for partition, position in positions.items():
            if self._now_ms is not None and partition not in busy:
                self._times_ms[partition] = self._now_ms()
            bucket = self._times_ms.get(partition, 0) // _BUCKET_MS
            if bucket != self._told_buckets.get(partition):
                beats += self._beats_of(partition, position)
                buckets[partition] = bucket
        await self._producer.send(self._entities.name, beats)
        self._told_buckets.update(buckets)

    def _beats_of(self, partition: int, position: int) -> list[OutRecord]:
        row = EntityRow(
            kind=EntityRowKind.ENTITY_ROW_KIND_HEARTBEAT,
            source_topic_id=self._source.topic_id,
            source_partition=partition,
            source_offset=position - 1,
            source_time_ms=self._times_ms.get(partition, 0),
        )
        content = row.SerializeToString()
        return [
            OutRecord(b"heartbeat", content, target) for target in range(self._entities.partitions)
        ]

    def _records_of(
        self, row: AcceptedRow, is_unusual: bool, shared: SharedView
    ) -> Iterator[OutRecord]:
        """Yield a purchase for each of its entities, in whose shards it was just read."""
        transaction, record = row.accepted.transaction, row.record
        # One message, since its rows differ in two fields only.
        message = EntityRow(
            kind=_TRANSACTION,
            source_topic_id=self._source.topic_id,
            source_partition=record.partition,
            source_offset=record.offset,
            source_time_ms=record.timestamp,
            event_time_ms=transaction.event_time_ms,
            amount_reference_minor=transaction.amount_reference_minor,
            transaction_kind=transaction.kind,
            is_unusual=is_unusual,
        )
        for number, entity in _SHARED_IN_ORDER:
            key = row.entities[number]
            if key:
                message.entity_kind = KIND_OF_ENTITY[entity]
                message.entity_key = key
                partition = shared.partitions[shared.indices[number][key]]
                yield OutRecord(log_key(entity, key), message.SerializeToString(), partition)

    def _out(self, row: EntityRow) -> OutRecord:
        key = log_key(ENTITY_OF_KIND[row.entity_kind], row.entity_key)
        partition = partition_of(key, self._entities.partitions)
        return OutRecord(key, row.SerializeToString(), partition)


def label_rows(label: Label, source: Log, record: ConsumerRecord) -> Iterator[EntityRow]:
    """Yield a label as a row of each entity of its transaction; none where it settles nothing."""
    if label.disposition not in _SETTLED:
        return
    for number, entity in _IN_ORDER:
        key = entity_key(label.bank_id, getattr(label, SHARED_FIELDS[number]))
        if key:
            yield EntityRow(
                kind=EntityRowKind.ENTITY_ROW_KIND_LABEL,
                entity_kind=KIND_OF_ENTITY[entity],
                entity_key=key,
                source_topic_id=source.topic_id,
                source_partition=record.partition,
                source_offset=record.offset,
                source_time_ms=record.timestamp,
                event_time_ms=label.event_time_ms,
                identity=identity_of(label.bank_id, label.card_token, label.transaction_id),
                is_fraud=label.disposition == Disposition.DISPOSITION_CONFIRMED_FRAUD,
            )
