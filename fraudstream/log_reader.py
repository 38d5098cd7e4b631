"""Reading whole topics: from their beginning or from now on, without a consumer group."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from fraudstream.bus import fetch_wait_ms, kafka_python_options
from fraudstream.errors import BrokerUnavailable
from fraudstream.settings import KafkaSettings
from fraudstream.topics import Topic

_POLL_RECORDS: Final = 5_000
_POLL_S: Final = 0.2
# Without a record for so long the broker is taken to be gone.
_SILENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of a topic, with where it lies."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class LogReader:
    """Reads some topics, in offset order for each partition.

    Args:
        settings: Where Kafka is.
        topics: What to read; each must exist.
        from_end: Begin with what is appended after this, instead of at the beginning.
        partition: Read this one alone; None for all.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[Topic],
        *,
        from_end: bool = False,
        partition: int | None = None,
    ) -> None:
        self._consumer = KafkaConsumer(
            **kafka_python_options(settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=fetch_wait_ms(settings),
            max_poll_records=_POLL_RECORDS,
        )
        self.places = [
            TopicPartition(name, number)
            for name in (settings.topic(topic) for topic in topics)
            for number in self._partitions(name)
            if partition in (None, number)
        ]
        self._consumer.assign(self.places)
        self._seek(from_end=from_end)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def poll(self, timeout_s: float) -> list[LogRecord]:
        """Return what has come, waiting up to `timeout_s` for the first record."""
        lots = self._consumer.poll(timeout_ms=round(timeout_s * 1_000))
        return [
            LogRecord(
                record.topic,
                record.partition,
                record.offset,
                record.timestamp,
                record.key or b"",
                record.value or b"",
                record.headers,
            )
            for lot in lots.values()
            for record in lot
        ]

    def first_offset(self) -> int:
        """Return the lowest offset that is kept; more than 0 where earlier records expired."""
        return int(min(self._consumer.beginning_offsets(self.places).values()))

    def to_end(self) -> Iterator[LogRecord]:
        """Yield every record up to the ends that the partitions have now, however many.

        Raises:
            BrokerUnavailable: The ends were not reached, and nothing came any more.
        """
        ends = self._consumer.end_offsets(self.places)
        gives_up_at = time.monotonic() + _SILENCE_S
        while any(self._is_before_end(place, end) for place, end in ends.items()):
            records = self.poll(_POLL_S)
            yield from records
            if records:
                gives_up_at = time.monotonic() + _SILENCE_S
            elif time.monotonic() > gives_up_at:
                names = sorted({place.topic for place in self.places})
                raise BrokerUnavailable(
                    f"{names}: before its end nothing came for {_SILENCE_S:g} s"
                )

    def _is_before_end(self, place: TopicPartition, end: int) -> bool:
        """Tell whether a partition holds more.

        The embedded broker says as its end where its last *batch* begins, plus one; what it says
        beside each fetched record is right.
        """
        known = max(end, self._consumer.highwater(place) or 0)
        return bool(self._consumer.position(place) < known)

    def _partitions(self, name: str) -> list[int]:
        found = self._consumer.partitions_for_topic(name)
        if not found:
            self.close()
            raise BrokerUnavailable(
                f"topic {name} does not exist; make it by `python -m services.ingest topics create`"
            )
        return sorted(found)

    def _seek(self, *, from_end: bool) -> None:
        """Fix the positions now, so that nothing appended later is missed."""
        if from_end:
            for place, end in self._consumer.end_offsets(self.places).items():
                self._consumer.seek(place, end)
        else:
            self._consumer.seek_to_beginning(*self.places)


def partition_count(settings: KafkaSettings, topic: Topic) -> int:
    """Return how many partitions a topic has.

    Raises:
        BrokerUnavailable: It does not exist, or the broker does not answer.
    """
    with LogReader(settings, [topic]) as reader:
        return len(reader.places)


def read_topic(settings: KafkaSettings, topic: Topic) -> list[LogRecord]:
    """Return all records of a topic up to its end."""
    with LogReader(settings, [topic]) as reader:
        return list(reader.to_end())
