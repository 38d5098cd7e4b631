"""Reading topics to their end, from their beginning or from now on, without a consumer group.

Only this module knows when an end is reached, and that the embedded broker is not exact about it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, Self

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from fraudstream.broker.clients import broker_fault, broker_faults, kafka_python_consumer_options
from fraudstream.errors import BrokerUnavailable
from fraudstream.settings import KafkaSettings
from fraudstream.topics import Topic

_LOG: Final = logging.getLogger(__name__)
_POLL_RECORDS: Final = 5_000
# Of a partition that is read in chunks: what a step of a rebuild keeps at once.
_LOT_RECORDS: Final = 2_000
# A fetch brings a poll's records of 2 KB; 1 MiB, which is Kafka's own default, at least.
_FETCH_BYTES: Final = range(1 << 20, 4 << 20)
_RECORD_BYTES: Final = 2_048
_POLL_S: Final = 0.2
_LAST_RECORD_MS: Final = 1_000
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

    @property
    def timestamp(self) -> int:
        """The same time by the name that both clients have for it."""
        return self.timestamp_ms


@dataclass(frozen=True, slots=True)
class Bounds:
    """First offset of one partition, and the one after its last."""

    begin: int
    end: int


class LogReader:
    """Reads some topics, in offset order for each partition.

    Args:
        settings: Where Kafka is.
        topics: What to read; each must exist.
        from_end: Begin with what is appended after this, instead of at the beginning.
        partition: Read this one alone; None for all.
        most_records: Of one poll; of a topic that nobody signs, where a batch of 30 kB may unpack
            to 30 records of 1 MiB, that bounds what is in memory.

    Raises:
        BrokerUnavailable: The broker does not answer or refuses (every method), or a topic is
            missing.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[Topic],
        *,
        from_end: bool = False,
        partition: int | None = None,
        most_records: int = _POLL_RECORDS,
    ) -> None:
        names = [settings.topic(topic) for topic in topics]
        self._settings = settings
        self._task = f"reading {', '.join(names)}"
        with broker_faults(settings, self._task):
            self._consumer = KafkaConsumer(
                **kafka_python_consumer_options(settings),
                auto_offset_reset="earliest",
                max_poll_records=most_records,
                max_partition_fetch_bytes=_fetch_bytes(most_records),
            )
            try:
                self.partitions = [
                    TopicPartition(name, number)
                    for name in names
                    for number in self._partitions(name)
                    if partition in (None, number)
                ]
                self._consumer.assign(self.partitions)
                self._seek(from_end=from_end)
            except BaseException:
                self.close()
                raise

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
        return [_record_of(record) for chunk in self._poll(timeout_s) for record in chunk]

    def seek(self, offset: int) -> None:
        """Go on at an offset of the one partition that is read."""
        (partition,) = self.partitions
        self._consumer.seek(partition, offset)

    def seek_back(self, offset: int) -> None:
        """Go on at an offset of the one partition that is read, or at its last record before it.

        With that record the embedded broker says where the end is.
        """
        (partition,) = self.partitions
        with broker_faults(self._settings, self._task):
            end = int(self._consumer.end_offsets([partition])[partition])
        if min(offset, end - 1) > 0:
            self._consumer.seek(partition, min(offset, end - 1))

    def first_offset(self) -> int:
        """Return the lowest offset that is kept; more than 0 where earlier records expired."""
        with broker_faults(self._settings, self._task):
            return int(min(self._consumer.beginning_offsets(self.partitions).values()))

    def bounds(self) -> list[Bounds]:
        """Return where each of `partitions` begins and ends. Reading begins again after it."""
        with broker_faults(self._settings, self._task):
            begins = self._consumer.beginning_offsets(self.partitions)
            ends = self._consumer.end_offsets(self.partitions)
            if self._settings.is_embedded:
                for partition in self.partitions:
                    ends[partition] = self._true_end(partition, begins[partition], ends[partition])
                self._consumer.assign(self.partitions)
                self._consumer.seek_to_beginning(*self.partitions)
        return [Bounds(begins[partition], ends[partition]) for partition in self.partitions]

    def to_end(self, within_s: float = math.inf) -> Iterator[LogRecord]:
        """Yield every record up to the ends that the partitions have now, however many.

        Args:
            within_s: How long to read, seconds; what is left then stays unread, and the log says
                so. Something is read in any case.

        Raises:
            BrokerUnavailable: The ends were not reached, and nothing came any more.
        """
        for chunk in self.chunks_to_end(within_s):
            yield from map(_record_of, chunk)

    def chunks_to_end(self, within_s: float = math.inf) -> Iterator[list[Any]]:
        """Yield the same in chunks of one partition, as kafka-python's `ConsumerRecord`."""
        with broker_faults(self._settings, self._task):
            ends = self._consumer.end_offsets(self.partitions)
        began = time.monotonic()
        stands, silent_since = self._stands(), began
        while self._is_before(ends):
            yield from self._poll(_POLL_S)
            # What is not trusted moves the position and does not come.
            before, stands = stands, self._stands()
            now = time.monotonic()
            if stands == before:
                self._check_silence(now - silent_since)
                continue
            silent_since = now
            if now - began > within_s:
                _LOG.error("%s: not at its end after %g s, the rest is left", self._task, within_s)
                return

    def _poll(self, timeout_s: float) -> list[list[Any]]:
        with broker_faults(self._settings, self._task):
            return list(self._consumer.poll(timeout_ms=round(timeout_s * 1_000)).values())

    def _stands(self) -> list[int | None]:
        """Return where reading stands in each partition."""
        with broker_faults(self._settings, self._task):
            return [self._consumer.position(partition) for partition in self.partitions]

    def _check_silence(self, silent_s: float) -> None:
        if silent_s > _SILENCE_S:
            silence = TimeoutError(f"nothing came for {_SILENCE_S:g} s before its end")
            raise broker_fault(self._settings, silence, self._task)

    def _is_before(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Return whether a partition holds more, up to where an open transaction begins.

        The embedded broker says as its end where its last *batch* begins, plus one; what it says
        beside each fetched record is right.
        """
        found = self._consumer.highwater if self._settings.is_embedded else ends.get
        with broker_faults(self._settings, self._task):
            return any(
                self._consumer.position(partition) < max(end, found(partition) or 0)
                for partition, end in ends.items()
            )

    def _true_end(self, partition: TopicPartition, begin: int, end: int) -> int:
        """Return what the embedded broker says beside the last batch."""
        if end <= begin:
            return end
        self._consumer.assign([partition])
        self._consumer.seek(partition, end - 1)
        self._consumer.poll(timeout_ms=_LAST_RECORD_MS, max_records=1)
        return max(end, self._consumer.highwater(partition) or 0)

    def _partitions(self, name: str) -> list[int]:
        found = self._consumer.partitions_for_topic(name)
        if not found:
            raise BrokerUnavailable(
                f"topic {name} does not exist; make it by `fraudstream ingest topics create`"
            )
        return sorted(found)

    def _seek(self, *, from_end: bool) -> None:
        """Fix the positions now, so that nothing appended later is missed."""
        if from_end:
            for partition, end in self._consumer.end_offsets(self.partitions).items():
                self._consumer.seek(partition, end)
        else:
            self._consumer.seek_to_beginning(*self.partitions)


def _record_of(record: Any) -> LogRecord:
    return LogRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key or b"",
        record.value or b"",
        record.headers,
    )


def _fetch_bytes(most_records: int) -> int:
    return min(max(most_records * _RECORD_BYTES, _FETCH_BYTES.start), _FETCH_BYTES.stop)


class ReadChunks(Protocol):
    """Reads a partition of a topic, as `chunks_of` does."""

    def __call__(self, topic: Topic, partition: int, begin: int = 0) -> AsyncGenerator[Any, None]:
        """Yield its records from `begin`, or some before it, to its end."""
        ...


async def chunks_of(
    settings: KafkaSettings, topic: Topic, partition: int, begin: int = 0
) -> AsyncGenerator[Any, None]:
    """Yield the records of a partition up to the end that it has when they are read, in chunks.

    Yields lists of kafka-python's `ConsumerRecord`, from `begin` or some before it. Threads do the
    reading.

    Raises:
        BrokerUnavailable: The broker does not answer, or the topic is missing.
    """
    opening = partial(LogReader, settings, [topic], partition=partition, most_records=_LOT_RECORDS)
    reader = await asyncio.to_thread(opening)
    try:
        if begin > 0:
            await asyncio.to_thread(reader.seek_back, begin)
        chunks = reader.chunks_to_end()
        while chunk := await asyncio.to_thread(next, chunks, None):
            yield chunk
    finally:
        await asyncio.to_thread(reader.close)


def bounds_of(settings: KafkaSettings, topics: Sequence[Topic], partition: int) -> list[Bounds]:
    """Return where the same partition of some topics begins and ends. Blocks: call from a thread.

    Raises:
        BrokerUnavailable: The broker does not answer, or a topic is missing.
    """
    with LogReader(settings, topics, partition=partition) as reader:
        return reader.bounds()


def partition_count(settings: KafkaSettings, topic: Topic) -> int:
    """Return how many partitions a topic has.

    Raises:
        BrokerUnavailable: It does not exist, or the broker does not answer.
    """
    with LogReader(settings, [topic]) as reader:
        return len(reader.partitions)


def read_topic(settings: KafkaSettings, topic: Topic) -> list[LogRecord]:
    """Return all records of a topic up to its end."""
    with LogReader(settings, [topic]) as reader:
        return list(reader.to_end())
