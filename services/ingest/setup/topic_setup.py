"""Commands `topics create` and `topics check`: every topic of the deployment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError, for_code

from fraudstream.broker.clients import broker_faults, kafka_python_options
from fraudstream.errors import InvalidSettings
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ALL, RAW, RULES, Topic
from services.ingest.feeds import Feeds
from services.ingest.settings import IngestSettings

_FOR_EVER: Final = -1
_READY_TIMEOUT_MS: Final = 30_000


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add `create` and `check` to the command line."""
    commands = parser.add_subparsers(required=True)
    create = commands.add_parser("create", help="make the topics that are missing")
    create.add_argument(
        "--replay",
        "--no-expiry",
        dest="is_replay",
        action="store_true",
        help="for a replay of old records: each keeps its own timestamp and none expires; "
        "FRAUD_KAFKA_IS_REPLAY=true says the same to every command and service",
    )
    create.set_defaults(run=_create)
    check = commands.add_parser("check", help="compare the topics with what they must be")
    check.set_defaults(run=_check)


def _create(asked: argparse.Namespace) -> int:
    kafka, settings = KafkaSettings.read(), IngestSettings.read()
    is_replay = asked.is_replay or kafka.is_replay
    topics = Feeds.read(settings.feeds_file, kafka).named(ALL)
    with broker_faults(kafka), closing(KafkaAdminClient(**kafka_python_options(kafka))) as admin:
        made = [
            kafka.topic(topic)
            for topic in topics
            if _create_one(admin, kafka.topic(topic), _wanted(topic, settings, is_replay))
        ]
        names = [kafka.topic(topic) for topic in topics]
        admin.wait_for_topics(names, _READY_TIMEOUT_MS)  # pyright: ignore[reportAttributeAccessIssue]  # its stubs are of 2.x
        expected = kafka.model_copy(update={"is_replay": is_replay})
        faults = _faults(admin, expected, settings)
    for name in names:
        print(f"{name}: {'made' if name in made else 'was there, left as it is'}")
    if faults:
        msg = f"`topics create` changes no topic that is there; {'; '.join(faults)}"
        raise InvalidSettings(msg)
    return os.EX_OK


def _wanted(topic: Topic, settings: IngestSettings, is_replay: bool) -> dict[str, Any]:
    return {
        "num_partitions": settings.topic_partitions,
        "replication_factor": settings.topic_replication,
        "configs": {
            "retention.ms": str(_retention_ms(topic, is_replay)),
            **_told_configs(topic, is_replay),
        },
    }


def _retention_ms(topic: Topic, is_replay: bool) -> int:
    """Return how long records are kept: old ones of a replay would be deleted at once."""
    return _FOR_EVER if is_replay else topic.retention_ms


def _told_configs(topic: Topic, is_replay: bool) -> dict[str, str]:
    """Return the settings of a topic that must be just so; `fraudstream.topics` says why."""
    # In a replay too the broker's clock says on which day a rule set was signed.
    clock = "CreateTime" if is_replay and topic != RULES else "LogAppendTime"
    return {"cleanup.policy": "delete", "message.timestamp.type": clock}


def _create_one(admin: KafkaAdminClient, name: str, wanted: dict[str, Any]) -> bool:
    """Make a topic unless it is there; return whether it was made."""
    answer = admin.create_topics({name: wanted}, raise_errors=False)  # pyright: ignore[reportCallIssue]  # as above
    error = for_code(answer["topics"][0]["error_code"])
    if answer["topics"][0]["error_code"] and error is not TopicAlreadyExistsError:
        raise InvalidSettings(f"the broker refuses to make topic {name}: {error.__name__}")
    return error is not TopicAlreadyExistsError


def _check(_asked: argparse.Namespace) -> int:
    kafka, settings = KafkaSettings.read(), IngestSettings.read()
    with broker_faults(kafka), closing(KafkaAdminClient(**kafka_python_options(kafka))) as admin:
        faults = _faults(admin, kafka, settings)
    if faults:
        raise InvalidSettings("; ".join(faults))
    if kafka.is_embedded:
        print("topics are there; this broker does not tell retention and cleanup")
    else:
        print("topics are as they must be")
    return os.EX_OK


def _faults(admin: KafkaAdminClient, kafka: KafkaSettings, settings: IngestSettings) -> list[str]:
    topics = Feeds.read(settings.feeds_file, kafka).named(ALL)
    names = [kafka.topic(topic) for topic in topics]
    found = {one["name"]: one for one in admin.describe_topics(names) if not one["error_code"]}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names if name in found]
    told = {}
    if resources:
        told = admin.describe_configs(resources, config_filter="all")  # pyright: ignore[reportCallIssue]  # as above
    faults = []
    for topic, name in zip(topics, names, strict=True):
        if name not in found:
            faults.append(f"{name}: missing, `topics create` makes it")
            continue
        partitions = len(found[name]["partitions"])
        if partitions != settings.topic_partitions:
            faults.append(f"{name}: {partitions} partitions, expected {settings.topic_partitions}")
        faults += _config_faults(topic, kafka, told.get("topic", {}).get(name, {}))
    return faults


def _config_faults(
    topic: Topic, kafka: KafkaSettings, told: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Compare retention, cleanup and time stamps, where the broker tells them."""
    name = kafka.topic(topic)
    faults = []
    for setting, wanted in _told_configs(topic, kafka.is_replay).items():
        found = told.get(setting, {}).get("value")
        if found is not None and found != wanted:
            faults.append(f"{name}: {setting} {found}, expected {wanted}{_why(setting, kafka)}")
    kept = told.get("retention.ms", {}).get("value")
    if kept is not None:
        faults += retention_faults(topic, kafka, int(kept))
    return faults


def retention_faults(topic: Topic, kafka: KafkaSettings, kept_ms: int) -> list[str]:
    """Compare how long records are kept: long enough to rebuild from, card numbers no longer."""
    name, wanted_ms = kafka.topic(topic), _retention_ms(topic, kafka.is_replay)
    if _span(kept_ms) < _span(wanted_ms):
        return [f"{name}: retention.ms {kept_ms}, expected {wanted_ms} at least"]
    if replace(topic, name=RAW.name) == RAW and _span(kept_ms) > _span(wanted_ms):
        return [f"{name}: retention.ms {kept_ms}, expected {wanted_ms}: it holds card numbers"]
    return []


def _span(retention_ms: int) -> float:
    return float("inf") if retention_ms == _FOR_EVER else retention_ms


def _why(setting: str, kafka: KafkaSettings) -> str:
    """Return what to do about a setting where that is not plain."""
    if setting != "message.timestamp.type":
        return " (change it by kafka-configs.sh --alter)"
    if kafka.is_replay:
        return " (FRAUD_KAFKA_IS_REPLAY is set: records bring their own clock)"
    return (
        " (change it by kafka-configs.sh --alter; for a replay of old records set"
        " FRAUD_KAFKA_IS_REPLAY=true)"
    )
