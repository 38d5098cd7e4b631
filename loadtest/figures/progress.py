"""How far topics and consumer groups have come, asked of the broker."""

from __future__ import annotations

from typing import Final

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from fraudstream.bus import kafka_python_options
from fraudstream.errors import BrokerUnavailable
from fraudstream.settings import KafkaSettings
from fraudstream.topics import Topic

_REQUEST_TIMEOUT_MS: Final = 30_000


class GroupProgress:
    """One consumer group on one topic. It asks only: it joins nothing and reads nothing.

    Args:
        kafka: Where Kafka is.
        topic: What the group reads.
        group: Full name of the group.
    """

    def __init__(self, kafka: KafkaSettings, topic: Topic, group: str) -> None:
        self._consumer = KafkaConsumer(
            **kafka_python_options(kafka),
            group_id=group,
            enable_auto_commit=False,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        name = kafka.topic(topic)
        found = self._consumer.partitions_for_topic(name)
        if not found:
            raise BrokerUnavailable(f"topic {name} is not there")
        self._places = [TopicPartition(name, partition) for partition in sorted(found)]

    @property
    def partitions(self) -> int:
        """Partitions of the topic."""
        return len(self._places)

    def end(self) -> int:
        """Return how many records the topic has ever held."""
        return sum(self._consumer.end_offsets(self._places).values())

    def uncommitted(self) -> int:
        """Return how many records the group has not finished."""
        ends = self._consumer.end_offsets(self._places)
        return sum(end - (self._consumer.committed(place) or 0) for place, end in ends.items())

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close(autocommit=False)
