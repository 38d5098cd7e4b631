"""Commands `topics create` and `topics check`: every topic of the deployment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from fraudstream.bus import kafka_python_options
from fraudstream.errors import BrokerUnavailable, InvalidSettings
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ALL, LABELS, Topic
from services.ingest.settings import IngestSettings

_FOR_EVER: Final = -1
_READY_TIMEOUT_MS: Final = 30_000


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add `create` and `check` to the command line."""
    commands = parser.add_subparsers(required=True)
    create = commands.add_parser("create", help="make the topics that are missing")
    create.add_argument(
        "--no-expiry",
        action="store_true",
        help="keep every record: for a replay on the clock of old records, which Kafka would "
        "otherwise delete as soon as they are written",
    )
    create.set_defaults(run=_create)
    check = commands.add_parser("check", help="compare the topics with what they must be")
    check.set_defaults(run=_check)


def _create(asked: argparse.Namespace) -> int:
    kafka, settings = KafkaSettings.read(), IngestSettings.read()
    admin = KafkaAdminClient(**kafka_python_options(kafka))
    try:
        for topic in ALL:
            _create_one(admin, kafka.topic(topic), _wanted(topic, settings, asked.no_expiry))
        names = [kafka.topic(topic) for topic in ALL]
        admin.wait_for_topics(names, _READY_TIMEOUT_MS)  # pyright: ignore[reportAttributeAccessIssue]  # its stubs are of 2.x
    finally:
        admin.close()
    return os.EX_OK


def _wanted(topic: Topic, settings: IngestSettings, is_kept: bool) -> dict[str, Any]:
    retention_ms = _FOR_EVER if is_kept else topic.retention_ms
    configs = {"retention.ms": str(retention_ms), **_told_configs(topic)}
    return {
        "num_partitions": settings.topic_partitions,
        "replication_factor": settings.topic_replication,
        "configs": configs,
    }


def _told_configs(topic: Topic) -> dict[str, str]:
    """Return the settings of a topic that must be just so."""
    if not topic.is_compacted:
        return {"cleanup.policy": "delete"}
    # What is kept for ever is signed; when it was taken is the broker's to say, not the signer's.
    # Older versions stay for as long as labels: a decision of theirs can be replayed.
    return {
        "cleanup.policy": "compact",
        "message.timestamp.type": "LogAppendTime",
        "min.compaction.lag.ms": str(LABELS.retention_ms),
    }


def _create_one(admin: KafkaAdminClient, name: str, wanted: dict[str, Any]) -> None:
    try:
        answer = admin.create_topics({name: wanted}, raise_errors=False)  # pyright: ignore[reportCallIssue]  # as above
    except KafkaError as exc:
        raise BrokerUnavailable(f"cannot make topic {name}: {type(exc).__name__}") from exc
    error = for_code(answer["topics"][0]["error_code"])
    if answer["topics"][0]["error_code"] and error is not TopicAlreadyExistsError:
        raise InvalidSettings(f"the broker refuses to make topic {name}: {error.__name__}")


def _check(_asked: argparse.Namespace) -> int:
    kafka, settings = KafkaSettings.read(), IngestSettings.read()
    admin = KafkaAdminClient(**kafka_python_options(kafka))
    try:
        faults = _faults(admin, kafka, settings)
    finally:
        admin.close()
    if faults:
        raise InvalidSettings("; ".join(faults))
    if kafka.is_embedded:
        print("topics are there; this broker does not tell retention and compaction")
    else:
        print("topics are as they must be")
    return os.EX_OK


def _faults(admin: KafkaAdminClient, kafka: KafkaSettings, settings: IngestSettings) -> list[str]:
    names = [kafka.topic(topic) for topic in ALL]
    found = {one["name"]: one for one in admin.describe_topics(names) if not one["error_code"]}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names if name in found]
    told = {}
    if resources:
        told = admin.describe_configs(resources, config_filter="all")  # pyright: ignore[reportCallIssue]  # as above
    faults = []
    for topic, name in zip(ALL, names, strict=True):
        if name not in found:
            faults.append(f"{name}: missing, `topics create` makes it")
            continue
        partitions = len(found[name]["partitions"])
        if partitions != settings.topic_partitions:
            faults.append(f"{name}: {partitions} partitions, expected {settings.topic_partitions}")
        faults += _config_faults(topic, name, told.get("topic", {}).get(name, {}))
    return faults


def _config_faults(topic: Topic, name: str, told: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Compare retention, compaction and time stamps, where the broker tells them."""
    faults = []
    for setting, wanted in _told_configs(topic).items():
        found = told.get(setting, {}).get("value")
        if found is not None and found != wanted:
            faults.append(f"{name}: {setting} {found}, expected {wanted}")
    kept = told.get("retention.ms", {}).get("value")
    longest = float("inf") if topic.retention_ms == _FOR_EVER else topic.retention_ms
    is_short = kept is not None and int(kept) != _FOR_EVER and int(kept) < longest
    if is_short:
        faults.append(f"{name}: retention.ms {kept}, expected {topic.retention_ms} at least")
    return faults
