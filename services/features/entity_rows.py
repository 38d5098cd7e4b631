"""Send counted rows on, keyed by their shared entities, and tell idle shards how far we are.

One producer, in log order, acknowledged before the state write. An entity shard skips what is not
above its mark of the source, so a batch that is sent again counts nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiokafka import ConsumerRecord

from fraudstream.bus import BatchProducer, OutRecord
from fraudstream.features.codec import TERMINAL, log_key, terminal_key
from fraudstream.identity import identity_of
from fraudstream.topics import partition_of
from fraudstream.v1.features_pb2 import EntityKind, EntityRow, EntityRowKind
from fraudstream.v1.label_pb2 import Disposition, Label
from services.features.advance import CardBatch
from services.features.logs import Log
from services.features.rows import AcceptedRow

_BEAT_S: Final = 1.0


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
        self._beat_at = 0.0

    def forget_all(self) -> None:
        """Forget how far the sources are: the assignment is another."""
        self._times_ms.clear()

    async def send(self, batch: CardBatch) -> None:
        """Send the rows of a batch's terminals.

        Raises:
            BrokerUnavailable: Not all were acknowledged; the batch must not be written.
        """
        rows = [self._row_of(row) for row in batch.rows if row.terminal]
        await self._producer.send(self._entities.name, [self._out(row) for row in rows])
        partition = batch.shard.partition
        newest_ms = max(row.record.timestamp for row in batch.rows)
        self._times_ms[partition] = max(self._times_ms.get(partition, 0), newest_ms)

    async def send_labels(self, labels: Sequence[tuple[Label, ConsumerRecord]]) -> None:
        """Send labels to their terminals; one that is undetermined says nothing.

        Raises:
            BrokerUnavailable: Not all were acknowledged.
        """
        rows = [label_row(label, self._source, record) for label, record in labels]
        known = [self._out(row) for row in rows if row is not None]
        await self._producer.send(self._entities.name, known)

    async def beat(self, positions: Mapping[int, int], busy: set[int]) -> None:
        """Tell every entity shard how far each source is, at most once a second.

        Args:
            positions: Position of each source that is well.
            busy: Sources that hold, or just held, unread records: the clock says nothing of them.
        """
        if time.monotonic() - self._beat_at < _BEAT_S:
            return
        self._beat_at = time.monotonic()
        beats = []
        for partition, position in positions.items():
            if self._now_ms is not None and partition not in busy:
                self._times_ms[partition] = self._now_ms()
            beats += self._beats_of(partition, position)
        await self._producer.send(self._entities.name, beats)

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

    def _row_of(self, row: AcceptedRow) -> EntityRow:
        transaction = row.accepted.transaction
        return EntityRow(
            kind=EntityRowKind.ENTITY_ROW_KIND_TRANSACTION,
            entity_kind=EntityKind.ENTITY_KIND_TERMINAL,
            entity_key=row.terminal,
            source_topic_id=self._source.topic_id,
            source_partition=row.record.partition,
            source_offset=row.record.offset,
            source_time_ms=row.record.timestamp,
            event_time_ms=transaction.event_time_ms,
            amount_reference_minor=transaction.amount_reference_minor,
            transaction_kind=transaction.kind,
        )

    def _out(self, row: EntityRow) -> OutRecord:
        key = log_key(TERMINAL, row.entity_key)
        partition = partition_of(key, self._entities.partitions)
        return OutRecord(key, row.SerializeToString(), partition)


def label_row(label: Label, source: Log, record: ConsumerRecord) -> EntityRow | None:
    """Return a label as a row of its terminal, None where it says nothing about one."""
    is_settled = label.disposition in (
        Disposition.DISPOSITION_CONFIRMED_FRAUD,
        Disposition.DISPOSITION_GENUINE,
    )
    terminal = terminal_key(label.bank_id, label.terminal_id)
    if not terminal or not is_settled:
        return None
    return EntityRow(
        kind=EntityRowKind.ENTITY_ROW_KIND_LABEL,
        entity_kind=EntityKind.ENTITY_KIND_TERMINAL,
        entity_key=terminal,
        source_topic_id=source.topic_id,
        source_partition=record.partition,
        source_offset=record.offset,
        source_time_ms=record.timestamp,
        event_time_ms=label.event_time_ms,
        identity=identity_of(label.bank_id, label.card_token, label.transaction_id),
        is_fraud=label.disposition == Disposition.DISPOSITION_CONFIRMED_FRAUD,
    )
