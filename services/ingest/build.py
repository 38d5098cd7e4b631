"""Wires the service: settings in, a loop that is ready to run out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Final

from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.structs import TopicPartition

from fraudstream.broker.client_patches import deliver_unreadable
from fraudstream.broker.clients import broker_faults, kafka_python_consumer_options, subscribe
from fraudstream.broker.topic_watch import TopicWatch
from fraudstream.broker.topics_at_start import TopicsAtStart
from fraudstream.broker.wire.record_keys import hold_as
from fraudstream.dead_letters.letter import LetterWriter
from fraudstream.errors import InvalidSettings
from fraudstream.keys.box_keys import load_public_key
from fraudstream.runtime.clock import epoch_ms, epoch_us
from fraudstream.settings import KafkaSettings, TelemetrySettings
from fraudstream.telemetry.spans import Telemetry
from fraudstream.topics import ACCEPTED
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.money import RateTable
from services.ingest.feeds import Feeds
from services.ingest.labels.accepted_lookup import AcceptedLookup
from services.ingest.labels.loop import LabelIntake, LabelLoop
from services.ingest.labels.settler import LabelOutlet, LabelSettler
from services.ingest.loop import IngestLoop
from services.ingest.outlet import TopicOutlet
from services.ingest.pan_opener import PanOpener
from services.ingest.processor import Canon, RecordProcessor
from services.ingest.settings import IngestSettings, needed_file
from services.ingest.setup.topic_looks import TopicLooks

_LOG: Final = logging.getLogger(__name__)

# The embedded broker answers a long poll only at its end; Kafka answers at once.
_FETCH_WAIT_MS: Final = {True: 20, False: 500}
# A whole poll of small records comes in one answer. What is inside is bounded where it is unpacked
# (`broker.codecs`, `broker.records`), so a poll holds 2,000 values of 64 KiB at most.
_FETCH_BYTES: Final = 4 * 1024 * 1024
_PARTITION_FETCH_BYTES: Final = 1024 * 1024


class AnnounceReady(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Says once that the group has taken this member in, and when its partitions go.

    Args:
        announce: Called at the first assignment.
        forget: Called before partitions go; what is published and committed within its poll has
            nothing to forget.
    """

    def __init__(
        self, announce: Callable[[], None], forget: Callable[[], None] = lambda: None
    ) -> None:
        self._announce = announce
        self._forget = forget
        self._is_announced = False

    def on_partitions_revoked(self, _revoked: list[TopicPartition]) -> None:
        """Forget what was read and not committed."""
        self._forget()

    def on_partitions_assigned(self, _assigned: list[TopicPartition]) -> None:
        """Announce the first assignment, even an empty one."""
        if not self._is_announced:
            self._is_announced = True
            self._announce()


def raw_consumer(
    kafka: KafkaSettings, settings: IngestSettings, group: str = "ingest"
) -> KafkaConsumer:
    """Return a consumer of a group of ingest: it commits nothing by itself and skips nothing."""
    consumer = KafkaConsumer(
        **kafka_python_consumer_options(kafka)
        | {"fetch_max_wait_ms": _FETCH_WAIT_MS[kafka.is_embedded]},
        group_id=kafka.group(group),
        auto_offset_reset="none",
        allow_auto_create_topics=False,
        fetch_max_bytes=_FETCH_BYTES,
        max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
        max_poll_records=settings.poll_records,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        metrics_enabled=False,
    )
    deliver_unreadable(consumer)
    return consumer


@contextmanager
def build(
    settings: IngestSettings,
    kafka: KafkaSettings,
    telemetry_settings: TelemetrySettings,
    rates: RateTable,
    announce: Callable[[], None],
) -> Iterator[IngestLoop]:
    """Yield the wired loop; close what it holds afterwards.

    Args:
        settings: Of ingest.
        kafka: Where Kafka is.
        telemetry_settings: Where spans go.
        rates: Converts amounts.
        announce: Called once, when the consumer has its partitions.

    Raises:
        InvalidSettings: A key file is missing or invalid.
        BrokerUnavailable: The broker or a topic is not there.
    """
    hold_as(kafka, "ingest")
    tokeniser, keys = settings.tokeniser()
    _LOG.info("card tokens are made with key %s, check value %s", keys.active, keys.check_value)
    public_key = load_public_key(needed_file(settings.seal_public_key_file, "SEAL_PUBLIC_KEY_FILE"))
    bounds = TimeBounds(settings.lateness_ms, settings.future_ms)
    pans = PanOpener.of(settings)
    feeds = _feeds(settings, kafka)
    read = [kafka.topic(topic) for topic in feeds.transactions]
    telemetry = Telemetry(telemetry_settings, "ingest")
    # Before the outlet counts the partitions: a topic that is widened in between is refused too.
    written = TopicsAtStart(kafka, [kafka.topic(ACCEPTED)])
    outlet = TopicOutlet(kafka)
    try:
        processor = RecordProcessor(
            Canon(tokeniser, rates, pans, bounds, kafka.is_replay, feeds),
            LetterWriter(public_key, "ingest", epoch_ms),
            outlet.start(),
            telemetry_settings.sample_ratio,
            epoch_us,
        )
        with broker_faults(kafka, f"reading {', '.join(read)}"):
            consumer = raw_consumer(kafka, settings)
            try:
                subscribe(consumer, read, AnnounceReady(announce))
                with ExitStack() as stack:
                    watches = [TopicWatch(kafka, consumer, name) for name in read]
                    for watch in watches:
                        stack.enter_context(closing(watch))
                    looks = TopicLooks(watches, written)
                    yield IngestLoop(consumer, processor, outlet, telemetry, looks.look)
            finally:
                consumer.close(autocommit=False)
    finally:
        written.close()
        outlet.close()
        telemetry.close()


@contextmanager
def build_labels(
    settings: IngestSettings, kafka: KafkaSettings, announce: Callable[[], None]
) -> Iterator[LabelLoop]:
    """Yield the wired loop of labels; close what it holds afterwards.

    Raises:
        InvalidSettings: A key file or the archive is missing or invalid.
        BrokerUnavailable: The broker or a topic is not there.
    """
    hold_as(kafka, "labels")
    tokeniser, _ = settings.tokeniser()
    public_key = load_public_key(needed_file(settings.seal_public_key_file, "SEAL_PUBLIC_KEY_FILE"))
    settler = LabelSettler(AcceptedLookup(settings.archive_root), tokeniser, epoch_ms)
    pans = PanOpener.of(settings)
    feeds = _feeds(settings, kafka)
    read = [kafka.topic(topic) for topic in feeds.labels]
    if not read:
        raise InvalidSettings(f"{settings.feeds_file}: expected a labels_topic in a feed at least")
    with (
        closing(LabelOutlet(kafka)) as outlet,
        broker_faults(kafka, f"reading {', '.join(read)}"),
    ):
        consumer = raw_consumer(kafka, settings, "bank-labels")
        letters = LetterWriter(public_key, "labels", epoch_ms)
        orphan_after_ms = round(settings.label_orphan_after_s * 1_000)
        intake = LabelIntake(feeds, pans, letters, orphan_after_ms)
        loop = LabelLoop(consumer, settler, outlet, intake)
        try:
            subscribe(consumer, read, AnnounceReady(announce, loop.forget))
            yield loop
        finally:
            consumer.close(autocommit=False)


def _feeds(settings: IngestSettings, kafka: KafkaSettings) -> Feeds:
    feeds = Feeds.read(settings.feeds_file, kafka)
    for feed in feeds.all:
        _LOG.info("feed %s: topic %s for banks %s", feed.name, feed.topic, ", ".join(feed.banks))
    return feeds
