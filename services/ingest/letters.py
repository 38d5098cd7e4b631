"""Reading dead letters back from their topic, and sending a mended record to the raw topic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from fraudstream.bus import kafka_python_options, kafka_python_producer_options
from fraudstream.dead_letter import ATTEMPTS, FIRST_SEEN
from fraudstream.errors import InvalidSettings
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DLQ, RAW
from fraudstream.transaction import CONTENT_TYPE, JSON

REPLAY_OF: Final = "replay-of"
_POLL_MS: Final = 500
_FETCH_WAIT_MS: Final = 50
_SEND_TIMEOUT_S: Final = 30

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it lies in the topic.

    Attributes:
        place: Partition and offset.
        headers: Reason, stage, source and so on.
        value: Message, preview and the sealed original, JSON.
    """

    place: Place
    headers: dict[str, bytes]
    value: bytes

    @property
    def name(self) -> str:
        """How the commands name it."""
        return f"{self.place[0]}:{self.place[1]}"

    def texts(self) -> dict[str, str]:
        """Return the headers as texts."""
        return {name: content.decode(errors="replace") for name, content in self.headers.items()}


def read_letters(kafka: KafkaSettings, only: Place | None = None) -> Iterator[Letter]:
    """Yield the dead letters that there are now, each partition in order.

    Args:
        kafka: Where Kafka is.
        only: The one that is wanted; None for all.
    """
    consumer = KafkaConsumer(
        **kafka_python_options(kafka),
        enable_auto_commit=False,
        # A place behind the end is no letter.
        auto_offset_reset="latest",
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    try:
        yield from _read(consumer, _starts(consumer, kafka.topic(DLQ), only), only)
    finally:
        consumer.close(autocommit=False)


def _starts(consumer: KafkaConsumer, topic: str, only: Place | None) -> dict[TopicPartition, int]:
    """Return where to begin in each partition."""
    if only:
        return {TopicPartition(topic, only[0]): only[1]}
    numbers = sorted(consumer.partitions_for_topic(topic) or ())
    found = consumer.beginning_offsets([TopicPartition(topic, number) for number in numbers])
    return dict(found)


def _read(
    consumer: KafkaConsumer, starts: dict[TopicPartition, int], only: Place | None
) -> Iterator[Letter]:
    consumer.assign(list(starts))
    ends = consumer.end_offsets(list(starts))
    for partition, offset in starts.items():
        consumer.seek(partition, offset)
    is_read = False
    while not is_read:
        for records in consumer.poll(timeout_ms=_POLL_MS).values():
            for record in records:
                place = (record.partition, record.offset)
                if only in (None, place):
                    yield Letter(place, dict(record.headers), record.value)
        # The embedded broker's end lies inside its last batch; the high watermark is right, but
        # known only once something was fetched.
        is_read = all(
            consumer.position(partition) >= max(end, consumer.highwater(partition) or 0)
            for partition, end in ends.items()
        )


def find_letter(kafka: KafkaSettings, place: Place) -> Letter:
    """Return one dead letter.

    Raises:
        InvalidSettings: There is none at this place.
    """
    letter = next(read_letters(kafka, only=place), None)
    if letter is not None:
        return letter
    raise InvalidSettings(f"there is no dead letter {place[0]}:{place[1]}; see `dlq list`")


def send_mended(
    kafka: KafkaSettings, letter: Letter, value: bytes, original: tuple[bytes | None, int | None]
) -> None:
    """Send a mended JSON record to the raw topic, and wait until it is acknowledged.

    Args:
        kafka: Where Kafka is.
        letter: What it mends; its first sight and attempts travel on.
        value: The record.
        original: Key of the record, and its timestamp; None for now.
    """
    key, timestamp_ms = original
    producer = KafkaProducer(**kafka_python_producer_options(kafka))
    try:
        producer.send(
            kafka.topic(RAW),
            key=key,
            value=value,
            headers=[
                (CONTENT_TYPE, JSON),
                (FIRST_SEEN, letter.headers["first_seen"]),
                (ATTEMPTS, letter.headers["attempts"]),
                (REPLAY_OF, letter.name.encode()),
            ],
            timestamp_ms=timestamp_ms,
        ).get(timeout=_SEND_TIMEOUT_S)
    finally:
        producer.close(timeout=_SEND_TIMEOUT_S)
