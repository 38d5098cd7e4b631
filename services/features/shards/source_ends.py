"""Where the sources of entity rows end: no row, and no heartbeat, may claim more.

A shard skips what is not above its mark of a source, so one forged mark would hide all that comes
after it. The broker is asked only when a row claims more than is known, once for all rows of a
poll: a request of a millisecond, at most one for each 50 ms in which a poll gathers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from fraudstream.broker.clients import broker_faults, kafka_python_consumer_options
from fraudstream.broker.quarantine import report
from fraudstream.broker.topic_info import Log, find_log
from fraudstream.reject_reasons import QuarantineReason
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, LABELS
from fraudstream.v1.features_pb2 import EntityRow

_SOURCES: Final = (ACCEPTED, LABELS)

RowAt = tuple[Any, EntityRow]
"""A record of the entities topic, and its row."""


Reached = Callable[[Sequence[RowAt]], Awaitable[list[RowAt]]]
"""Leaves out the rows that claim what their source has not reached, and keeps the order."""


class SourceEnds:
    """Knows how far the accepted and the labels topic have come. Use from one event loop.

    The embedded broker is not exact about the ends of logs: there nothing is asked.

    Args:
        kafka: Where Kafka is.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._logs: Sequence[Log] = ()
        self._consumer: KafkaConsumer | None = None
        self._ends: dict[tuple[bytes, int], int] = {}
        self._lock = asyncio.Lock()

    async def __call__(self, rows: Sequence[RowAt]) -> list[RowAt]:
        """Return the rows whose source has come so far; tell the quarantine of the others.

        Of a source that is another topic by now nothing is known: its rows stay.

        Raises:
            InvalidSettings: A source does not exist.
            BrokerUnavailable: The broker does not answer.
        """
        if self._kafka.is_embedded:
            return list(rows)
        async with self._lock:
            if not self._logs or self._is_any_ahead(rows):
                await asyncio.to_thread(self._ask)
            if self._is_any_ahead(rows):
                # Rarely, and never without a fault: a topic that was made again has another id.
                self._logs = ()
                await asyncio.to_thread(self._ask)
        kept = []
        for record, row in rows:
            if self._is_ahead(row):
                text = "claims an offset that its source has not reached"
                report(record, QuarantineReason.SOURCE, text)
            else:
                kept.append((record, row))
        return kept

    def _is_any_ahead(self, rows: Sequence[RowAt]) -> bool:
        return any(self._is_ahead(row) for _, row in rows)

    def _is_ahead(self, row: EntityRow) -> bool:
        end = self._ends.get((row.source_topic_id, row.source_partition))
        if end is None:
            # A partition that a source of ours does not have.
            return any(row.source_topic_id == log.topic_id for log in self._logs)
        return row.source_offset >= end

    def _ask(self) -> None:
        """Ask where the sources end. Blocks: in a thread, one at a time."""
        if not self._logs:
            self._logs = [find_log(self._kafka, topic) for topic in _SOURCES]
        with broker_faults(self._kafka, "asking where the sources of entity rows end"):
            if self._consumer is None:
                # The high watermark: a transaction may be open still.
                options = kafka_python_consumer_options(self._kafka)
                self._consumer = KafkaConsumer(**options | {"isolation_level": "read_uncommitted"})
            tps = {
                TopicPartition(log.name, partition): (log.topic_id, partition)
                for log in self._logs
                for partition in range(log.partitions)
            }
            found: Mapping[TopicPartition, int] = self._consumer.end_offsets(list(tps))
        self._ends = {tps[tp]: end for tp, end in found.items()}
