"""Wires the service: settings in, a loop that is ready to run out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from fraudstream.broker.clients import broker_faults, kafka_python_consumer_options, subscribe
from fraudstream.broker.quarantine import open_quarantine
from fraudstream.broker.wire.record_keys import hold_as
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS
from services.archive.fork_watch import ForkWatch
from services.archive.log_partition import LogPartition
from services.archive.loop import ArchiveLoop, Assignment
from services.archive.partition_archive import FileRules, PartitionArchive
from services.archive.settings import ArchiveSettings
from services.archive.streams import STREAMS
from services.archive.topic_ids import TopicIds

_FETCH_BYTES: Final = 8 * 1024 * 1024
_PARTITION_FETCH_BYTES: Final = 1024 * 1024
_POLL_RECORDS: Final = 5_000


def archive_consumer(kafka: KafkaSettings) -> KafkaConsumer:
    """Return a consumer of the archive's group: it commits nothing by itself."""
    return KafkaConsumer(
        **kafka_python_consumer_options(kafka),
        group_id=kafka.group("archive"),
        auto_offset_reset="earliest",
        allow_auto_create_topics=False,
        fetch_max_bytes=_FETCH_BYTES,
        max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
        max_poll_records=_POLL_RECORDS,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        metrics_enabled=False,
    )


@contextmanager
def build(
    settings: ArchiveSettings, kafka: KafkaSettings, announce: Callable[[], None]
) -> Iterator[ArchiveLoop]:
    """Yield the wired loop; disconnect afterwards.

    Args:
        settings: Of the archive.
        kafka: Where Kafka is.
        announce: Called once, when the group has taken this worker in.

    Raises:
        InvalidSettings: A topic or a key of records' MACs is missing.
        BrokerUnavailable: The broker is not there.
    """
    open_quarantine(kafka, "archive")
    hold_as(kafka, "archive")
    ids = TopicIds(kafka)
    rules = FileRules(settings.max_rows, settings.max_age_s, ids.confirm, time.monotonic)
    watch = ForkWatch()
    streams = {kafka.topic(stream.topic): stream for stream in STREAMS}

    def open_partition(tp: TopicPartition) -> PartitionArchive | None:
        stream = streams[tp.topic]
        where = LogPartition(settings.root, stream, ids.of(stream.noun), tp.partition)
        return PartitionArchive.open(where, rules, watch if stream.topic is DECISIONS else None)

    try:
        with broker_faults(kafka, "reading for the archive"):
            consumer = archive_consumer(kafka)
            try:
                assignment = Assignment(consumer, announce)
                subscribe(consumer, streams, assignment)
                yield ArchiveLoop(
                    consumer,
                    assignment,
                    open_partition,
                    settings.pending_bytes,
                    kafka.is_embedded,
                    ids.look,
                )
            finally:
                consumer.close(autocommit=False)
    finally:
        ids.close()
