"""The log by a raw consumer of librdkafka: what lies in a topic, and how far a group has come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

_TIMEOUT_S: Final = 30.0


class RawLog:
    """Reads topics as any Kafka client would, committed records only.

    Args:
        bootstrap: Address of the broker.
    """

    def __init__(self, bootstrap: str) -> None:
        self._options = {
            "bootstrap.servers": bootstrap,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            # The embedded broker answers a long poll only at its end.
            "fetch.wait.max.ms": 50,
        }

    def read(self, topic: str) -> list[Message]:
        """Return the committed records of a topic up to the ends that it has now, by partition."""
        consumer = Consumer({**self._options, "group.id": "raw-log"})
        try:
            partitions = self._partitions(consumer, topic)
            consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
            found = sorted(_to_end(consumer, len(partitions)), key=place_of)
        finally:
            consumer.close()
        return found

    def lag(self, group: str, topic: str) -> int:
        """Return how many offsets of a topic a group has not committed, markers included."""
        consumer = Consumer({**self._options, "group.id": group})
        try:
            committed = consumer.committed(
                [TopicPartition(topic, p) for p in self._partitions(consumer, topic)],
                timeout=_TIMEOUT_S,
            )
            return sum(self._behind(consumer, one) for one in committed)
        finally:
            consumer.close()

    def _behind(self, consumer: Consumer, committed: TopicPartition) -> int:
        low, high = consumer.get_watermark_offsets(committed, timeout=_TIMEOUT_S)
        return int(high - (committed.offset if committed.offset >= 0 else low))

    def _partitions(self, consumer: Consumer, topic: str) -> list[int]:
        metadata = consumer.list_topics(topic, timeout=_TIMEOUT_S)
        return sorted(metadata.topics[topic].partitions)


def _to_end(consumer: Consumer, partitions: int) -> Iterator[Message]:
    """Yield records until each partition said that its end is reached."""
    ended: set[int] = set()
    while len(ended) < partitions:
        message = consumer.poll(_TIMEOUT_S)
        assert message is not None, f"no record and no end within {_TIMEOUT_S:g} s"
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            partition = message.partition()
            assert partition is not None
            ended.add(partition)
        else:
            raise KafkaException(error)


def place_of(message: Message) -> tuple[str, int, int]:
    """Return topic, partition and offset of a record."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return topic, partition, offset


def headers_of(message: Message) -> list[tuple[str, bytes]]:
    """Return the headers of a record in their order."""
    headers = message.headers() or []
    assert isinstance(headers, list)
    return [(name, bytes(content or b"")) for name, content in headers]  # type: ignore[arg-type]  # librdkafka gives bytes
