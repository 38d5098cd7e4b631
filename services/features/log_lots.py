"""Read one partition of a topic to its end, in lots, without a group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any, Final, Protocol

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from fraudstream.bus import fetch_wait_ms, kafka_python_options
from fraudstream.errors import BrokerUnavailable
from fraudstream.settings import KafkaSettings
from fraudstream.topics import Topic

_LOT_ROWS: Final = 2_000
_FETCH_BYTES: Final = 4 << 20
_POLL_MS: Final = 200
# Without a record for so long the broker is taken to be gone.
_SILENCE_S: Final = 60.0


class Lots(Protocol):
    """Reads a partition of a topic, as `lots_of` does."""

    def __call__(self, topic: Topic, partition: int, begin: int = 0) -> AsyncGenerator[Any, None]:
        """Yield its records from `begin`, or some before it, to its end."""
        ...


async def lots_of(
    settings: KafkaSettings, topic: Topic, partition: int, begin: int = 0
) -> AsyncGenerator[Any, None]:
    """Yield the records of a partition up to the end that it has when they are read, in lots.

    Yields lists of kafka-python's `ConsumerRecord`, from `begin` or some before it. Threads do the
    reading.

    Raises:
        BrokerUnavailable: The broker does not answer.
    """
    reader = await asyncio.to_thread(_PartitionReader, settings, topic, partition, begin)
    try:
        while True:
            lot = await asyncio.to_thread(reader.next_lot)
            if not lot:
                return
            yield lot
    finally:
        await asyncio.to_thread(reader.close)


class _PartitionReader:
    """A consumer of one partition. Blocks: call from threads, one at a time."""

    def __init__(self, settings: KafkaSettings, topic: Topic, partition: int, begin: int) -> None:
        self._settings = settings
        self._place = TopicPartition(settings.topic(topic), partition)
        try:
            self._consumer = KafkaConsumer(
                **kafka_python_options(settings),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_poll_records=_LOT_ROWS,
                max_partition_fetch_bytes=_FETCH_BYTES,
                fetch_max_wait_ms=fetch_wait_ms(settings),
            )
            self._consumer.assign([self._place])
            self._end = self._consumer.end_offsets([self._place])[self._place]
            # Its last record, at least: with it the embedded broker says where the end is.
            begin = min(begin, self._end - 1)
            if begin > 0:
                self._consumer.seek(self._place, begin)
            else:
                self._consumer.seek_to_beginning(self._place)
        except KafkaError as exc:
            raise self._unavailable(exc) from exc

    def next_lot(self) -> list[Any]:
        """Return the next records; none where the end is reached."""
        gives_up_at = time.monotonic() + _SILENCE_S
        try:
            while self._is_before_end():
                if time.monotonic() > gives_up_at:
                    raise self._unavailable(TimeoutError())
                found = self._consumer.poll(timeout_ms=_POLL_MS)
                if found:
                    return [record for lot in found.values() for record in lot]
        except KafkaError as exc:
            raise self._unavailable(exc) from exc
        return []

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def _is_before_end(self) -> bool:
        """Tell whether the partition holds more.

        The embedded broker says as its end where its last batch begins, plus one; what it says
        beside each fetched record is right.
        """
        end = self._end
        if self._settings.is_embedded:
            end = max(end, self._consumer.highwater(self._place) or 0)
        return bool(self._consumer.position(self._place) < end)

    def _unavailable(self, exc: Exception) -> BrokerUnavailable:
        name = type(exc).__name__
        return BrokerUnavailable(f"{self._place.topic} cannot be read to its end: {name}")
