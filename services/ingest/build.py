"""Wires the service: settings in, a loop that is ready to run out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.structs import TopicPartition

from fraudstream.bus import kafka_python_options, subscribe
from fraudstream.dead_letter import LetterWriter, load_public_key
from fraudstream.errors import InvalidSettings
from fraudstream.money import indicative_rate_table, load_rate_table
from fraudstream.privacy import Tokeniser, TokenKeys
from fraudstream.settings import KafkaSettings, TelemetrySettings
from fraudstream.telemetry import Telemetry
from fraudstream.topics import RAW
from fraudstream.transaction import TimeBounds
from services.ingest.loop import IngestLoop
from services.ingest.outlet import TopicOutlet
from services.ingest.processor import Canon, RecordProcessor
from services.ingest.settings import IngestSettings

# The embedded broker answers a long poll only at its end; Kafka answers at once.
_FETCH_WAIT_MS: Final = {True: 20, False: 500}
# A whole poll of small records comes in one answer; memory is bounded whatever is inside.
_FETCH_BYTES: Final = 4 * 1024 * 1024
_PARTITION_FETCH_BYTES: Final = 1024 * 1024


class AnnounceReady(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Says once that the group has taken this member in."""

    def __init__(self, announce: Callable[[], None]) -> None:
        self._announce = announce
        self._is_announced = False

    def on_partitions_revoked(self, _revoked: list[TopicPartition]) -> None:
        """Do nothing: what was read is published and committed within its poll."""

    def on_partitions_assigned(self, _assigned: list[TopicPartition]) -> None:
        """Announce the first assignment, even an empty one."""
        if not self._is_announced:
            self._is_announced = True
            self._announce()


def raw_consumer(kafka: KafkaSettings, settings: IngestSettings) -> KafkaConsumer:
    """Return a consumer of ingest's group: it commits nothing by itself and skips nothing."""
    return KafkaConsumer(
        **kafka_python_options(kafka),
        group_id=kafka.group("ingest"),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        allow_auto_create_topics=False,
        fetch_max_wait_ms=_FETCH_WAIT_MS[kafka.is_embedded],
        fetch_max_bytes=_FETCH_BYTES,
        max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
        max_poll_records=settings.poll_records,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        metrics_enabled=False,
    )


@contextmanager
def build(
    settings: IngestSettings,
    kafka: KafkaSettings,
    telemetry_settings: TelemetrySettings,
    announce: Callable[[], None],
) -> Iterator[IngestLoop]:
    """Yield the wired loop; close what it holds afterwards.

    Args:
        settings: Of ingest.
        kafka: Where Kafka is.
        telemetry_settings: Where spans go.
        announce: Called once, when the consumer has its partitions.

    Raises:
        InvalidSettings: A key file or the rate table is not as it must be.
        BrokerUnavailable: The broker or a topic is not there.
    """
    tokeniser = Tokeniser(TokenKeys.load(_required(settings.token_keys_file, "TOKEN_KEYS_FILE")))
    public_key = load_public_key(_required(settings.seal_public_key_file, "SEAL_PUBLIC_KEY_FILE"))
    rate_file = settings.rate_table_file
    rates = load_rate_table(rate_file) if rate_file else indicative_rate_table()
    bounds = TimeBounds(settings.lateness_ms, settings.future_ms)
    telemetry = Telemetry(telemetry_settings, "ingest")
    outlet = TopicOutlet(kafka)
    try:
        processor = RecordProcessor(
            Canon(tokeniser, rates, bounds),
            LetterWriter(public_key, "ingest", lambda: time.time_ns() // 1_000_000),
            outlet.start(),
            telemetry_settings.sample_ratio,
            lambda: time.time_ns() // 1_000,
        )
        consumer = raw_consumer(kafka, settings)
        try:
            subscribe(consumer, [kafka.topic(RAW)], AnnounceReady(announce))
            yield IngestLoop(consumer, processor, outlet, telemetry)
        finally:
            consumer.close(autocommit=False)
    finally:
        outlet.close()
        telemetry.close()


def _required(path: Path | None, name: str) -> Path:
    if path is None:
        raise InvalidSettings(f"FRAUD_INGEST_{name} is not set; `keys` makes new key files")
    return path
