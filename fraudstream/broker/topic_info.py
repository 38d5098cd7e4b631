"""What the broker says of topics: whether they are there, their ids and partition counts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient

from fraudstream.broker.clients import broker_faults, kafka_python_options
from fraudstream.errors import InvalidSettings, LogReplaced
from fraudstream.settings import KafkaSettings
from fraudstream.topics import Topic, incarnation_of


@dataclass(frozen=True, slots=True)
class Log:
    """One topic as it is now.

    Attributes:
        name: Its name in this deployment.
        topic_id: 16 bytes; a topic made again has another.
        partitions: How many it has.
    """

    name: str
    topic_id: bytes
    partitions: int

    @property
    def incarnation(self) -> str:
        """Topic id and partition count, as markers name them."""
        return incarnation_of(self.topic_id, self.partitions)


def describe(
    settings: KafkaSettings, admin: KafkaAdminClient, names: Sequence[str]
) -> dict[str, Log]:
    """Return those of some topics that are there now, by name.

    Raises:
        BrokerUnavailable: The broker does not answer.
    """
    with broker_faults(settings, f"describing {', '.join(names)}"):
        described = admin.describe_topics(list(names))
    return {
        str(found["name"]): Log(
            str(found["name"]),
            uuid.UUID(str(found["topic_id"])).bytes,
            len(found["partitions"]),
        )
        for found in described
        if not found["error_code"]
    }


def find_log(settings: KafkaSettings, topic: Topic) -> Log:
    """Return a topic as it is now.

    Raises:
        InvalidSettings: It does not exist.
        BrokerUnavailable: The broker does not answer.
    """
    name = settings.topic(topic)
    with (
        broker_faults(settings, f"describing {name}"),
        closing(KafkaAdminClient(**kafka_python_options(settings))) as admin,
    ):
        found = describe(settings, admin, [name])
    if name not in found:
        msg = f"topic {name} does not exist; run `fraudstream ingest topics create`"
        raise InvalidSettings(msg)
    return found[name]


def refuse_another(before: Log, now: Log) -> None:
    """Compare a topic with what it was.

    Raises:
        LogReplaced: It was made again.
    """
    if now.topic_id != before.topic_id:
        raise LogReplaced(
            f"topic {now.name} was made again (id {before.topic_id.hex()} before,"
            f" {now.topic_id.hex()} now): a new start reads the new one"
        )
