"""What the broker knows of the logs that shards follow: incarnations, and where they begin."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from fraudstream.bus import kafka_python_options
from fraudstream.errors import BrokerUnavailable, InvalidSettings
from fraudstream.settings import KafkaSettings
from fraudstream.shard import incarnation_of
from fraudstream.topics import Topic


@dataclass(frozen=True, slots=True)
class Log:
    """One topic as it is now.

    Attributes:
        name: Its name in this deployment.
        topic_id: 16 bytes; a topic made anew has another.
        partitions: How many it has.
    """

    name: str
    topic_id: bytes
    partitions: int

    @property
    def incarnation(self) -> str:
        """Topic id and partition count, as markers name them."""
        return incarnation_of(self.topic_id, self.partitions)


def find_log(settings: KafkaSettings, topic: Topic) -> Log:
    """Return a topic as it is now.

    Raises:
        InvalidSettings: It does not exist.
        BrokerUnavailable: The broker does not answer.
    """
    name = settings.topic(topic)
    try:
        admin = KafkaAdminClient(**kafka_python_options(settings))
        try:
            found = admin.describe_topics([name])[0]
        finally:
            admin.close()
    except KafkaError as exc:
        msg = f"the broker at {settings.bootstrap} does not answer: {type(exc).__name__}"
        raise BrokerUnavailable(msg) from exc
    if found["error_code"]:
        msg = f"topic {name} does not exist; run `python -m services.ingest topics create`"
        raise InvalidSettings(msg)
    topic_id = uuid.UUID(str(found["topic_id"])).bytes
    return Log(name, topic_id, len(found["partitions"]))


@dataclass(frozen=True, slots=True)
class Bounds:
    """First offset of one partition, and the one after its last."""

    begin: int
    end: int


def bounds_of(settings: KafkaSettings, topics: Sequence[Topic], partition: int) -> list[Bounds]:
    """Return where the same partition of some topics begins and ends. Blocks: call from a thread.

    Raises:
        BrokerUnavailable: The broker does not answer.
    """
    places = [TopicPartition(settings.topic(topic), partition) for topic in topics]
    try:
        consumer = KafkaConsumer(enable_auto_commit=False, **kafka_python_options(settings))
        try:
            begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        finally:
            consumer.close()
    except KafkaError as exc:
        msg = f"the broker at {settings.bootstrap} does not answer: {type(exc).__name__}"
        raise BrokerUnavailable(msg) from exc
    return [Bounds(begins[place], ends[place]) for place in places]
