"""Each principal does its own work and nothing else, on servers that ask who comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)
from kafka.structs import TopicPartition

from fraudstream.broker.clients import kafka_python_consumer_options, kafka_python_options
from fraudstream.broker.log_reader import read_topic
from fraudstream.privileges import PRINCIPALS, SERVICES, Principal
from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ALL, LABELS
from harness.line import Line
from harness.processes import wait_until
from harness.servers import lacking_for_kafka
from harness.service_process import ServiceProcess
from harness.settings import MachineSettings
from harness.traffic import Disorder
from tests.e2e.analyst import Analyst
from tests.e2e.line_run import LineRun, records_of
from tests.servers.guarded_servers import (
    PREFIX,
    ROOT,
    Guarded,
    granted,
    guarded_servers,
    rights_of,
    run_ingest,
    run_tool,
)
from training.simulator.simulate import SimulationSettings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
_TIMEOUT_S: Final = 30.0
by_principal = pytest.mark.parametrize("one", PRINCIPALS, ids=lambda one: one.name)
USERS: Final = ROOT / "ops" / "kafka" / "users.sh"
SERVERS: Final = ("FRAUD_KAFKA_", "FRAUD_REDIS_")
PROGRAMS: Final[tuple[tuple[str, str, list[str]], ...]] = (
    ("scoring", "services.scoring", []),
    ("features-card", "services.features", ["card"]),
    ("features-entity", "services.features", ["entity"]),
    ("features-label", "services.features", ["label"]),
    ("archive", "services.archive", []),
    ("console", "services.console", []),
    ("ingest", "services.ingest", []),
    ("labels", "services.ingest", ["labels", "follow"]),
)
GROUPS: Final = sorted(one.group for one in SERVICES if one.group)


@pytest.fixture(scope="module")
def java_and_kafka(machine: MachineSettings) -> tuple[Path, Path]:
    """Java and Kafka's folder; skips where one is missing."""
    lacking = lacking_for_kafka(machine)
    if lacking or machine.kafka_home is None or machine.java is None:
        pytest.skip(lacking)
    return machine.java, machine.kafka_home


@pytest.fixture(scope="module")
def guarded(
    java_and_kafka: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """The servers, with a record in each topic."""
    java, home = java_and_kafka
    with guarded_servers(home, java, tmp_path_factory.mktemp("guarded")) as servers:
        with closing(KafkaProducer(bootstrap_servers=servers.kafka.bootstrap)) as producer:
            for topic in ALL:
                name = servers.settings("ingest").topic(topic)
                producer.send(name, b"value", b"key", partition=0).get(timeout=_TIMEOUT_S)
        yield servers


def no_more() -> None:
    """Do nothing else while records are sent."""


def may_write(producer: KafkaProducer, name: str) -> bool:
    """Return whether the broker takes a record."""
    try:
        producer.send(name, b"value", b"key", partition=1).get(timeout=_TIMEOUT_S)
    except TopicAuthorizationFailedError:
        return False
    return True


def may_read(consumer: KafkaConsumer, name: str) -> bool:
    """Return whether the broker gives the first record of a topic that has one."""
    if not consumer.partitions_for_topic(name):
        return False  # not even its name is told
    place = TopicPartition(name, 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    ends_at_s = time.monotonic() + _TIMEOUT_S
    try:
        while not consumer.poll(timeout_ms=1_000):
            assert time.monotonic() < ends_at_s, f"neither a record of {name} nor a refusal came"
    except TopicAuthorizationFailedError:
        return False
    return True


@by_principal
def test_principal_writes_its_own_topics_alone(guarded: Guarded, one: Principal) -> None:
    """Every other topic's write is refused by the broker."""
    settings = guarded.settings(one.name)
    options = kafka_python_options(settings) | {"acks": "all", "enable_idempotence": False}

    with closing(KafkaProducer(**options)) as producer:
        allowed = {topic for topic in ALL if may_write(producer, settings.topic(topic))}

    assert allowed == set(one.writes)


@by_principal
def test_principal_reads_its_own_topics_alone(guarded: Guarded, one: Principal) -> None:
    """Every other topic's records are kept from it."""
    settings = guarded.settings(one.name)

    with closing(KafkaConsumer(**kafka_python_consumer_options(settings))) as consumer:
        allowed = {topic for topic in ALL if may_read(consumer, settings.topic(topic))}

    assert allowed == set(one.reads)


@by_principal
def test_principal_joins_its_own_group_alone(guarded: Guarded, one: Principal) -> None:
    """Nobody moves the offsets of another service."""
    settings = guarded.settings(one.name)
    allowed = []
    for group in GROUPS:
        options = kafka_python_consumer_options(settings) | {"group_id": settings.group(group)}
        with closing(KafkaConsumer(**options)) as consumer:
            try:
                consumer.committed(TopicPartition(settings.topic(ALL[0]), 0))
            except GroupAuthorizationFailedError:
                continue
            except TopicAuthorizationFailedError:
                pass
            allowed.append(group)

    assert allowed == [group for group in GROUPS if group == one.group]


@pytest.mark.parametrize("tool", ["AclCommand", "ConfigCommand"])
def test_scripts_do_by_kafkas_own_tools_what_the_tests_did(
    guarded: Guarded, java_and_kafka: tuple[Path, Path], tool: str
) -> None:
    """The commands are Kafka's: rights come out equal, and a user can log in."""
    java, home = java_and_kafka
    before = granted(guarded, "console")
    user, folder = guarded.user("console"), guarded.passwords / "one"
    if tool == "AclCommand":
        with closing(KafkaAdminClient(bootstrap_servers=guarded.kafka.bootstrap)) as admin:
            admin.delete_acls([rights_of(user)])
        lines = run_ingest(["privileges", "kafka"], {"FRAUD_KAFKA_TOPIC_PREFIX": PREFIX})
        kept = [x for x in lines.splitlines() if not x.startswith("allow ") or user in x.split()[1]]
        run_tool(guarded, (java, home), tool, "\n".join(kept))
    else:
        folder.mkdir()
        (folder / "guest").write_text("of-the-script\n")
        run_tool(guarded, (java, home), tool, USERS.read_text(), str(folder))

    assert granted(guarded, "console") == before
    if tool == "ConfigCommand":
        guest = guarded.settings("console").model_copy(
            update={
                "sasl_username": guarded.user("guest"),
                "sasl_password_file": folder / "guest",
            }
        )
        (folder / "guest").chmod(0o400)
        with closing(KafkaAdminClient(**kafka_python_options(guest))) as admin:
            assert admin.list_topics() == []


def test_every_service_works_by_its_own_principal(guarded: Guarded, tmp_path: Path) -> None:
    """A few hundred transactions, from the raw topic to alert, label and archive."""
    servers = {
        "FRAUD_KAFKA_BOOTSTRAP": guarded.kafka.bootstrap,
        "FRAUD_KAFKA_TOPIC_PREFIX": PREFIX,
        "FRAUD_REDIS_URL": guarded.valkey.url,
    }
    line = Line(tmp_path, servers)
    line.prepare()
    shared = {
        name: value for name, value in line.environment.items() if not name.startswith(SERVERS)
    }
    archive = tmp_path / "archive"
    archive.mkdir()
    shared["FRAUD_ARCHIVE_ROOT"] = shared["FRAUD_INGEST_ARCHIVE_ROOT"] = str(archive)
    shared["FRAUD_ARCHIVE_MAX_AGE_S"] = "2"
    line.services = [
        ServiceProcess(module, words, shared | guarded.environment(name), tmp_path / "logs")
        for name, module, words in PROGRAMS
    ]
    run = LineRun(line, servers)
    traffic = SimulationSettings(
        seed=9_001, cards=60, start_ms=epoch_ms() - 600_000, fraud_share=0.1
    )
    with redis.Redis.from_url(guarded.valkey.url) as admin:
        admin.execute_command("ACL", "LOG", "RESET")
        try:
            line.start()
            run.feed(records_of(300, traffic, Disorder(bad=0.03)), timeout_s=120, tick=no_more)
            analyst = Analyst(line.console_url, "analyst", "analyst-demo")
            assert wait_until(lambda: bool(analyst.queue()), 60.0), "no alert in the queue"
            analyst.settle(analyst.queue()[0], "confirmed_fraud")
            assert wait_until(lambda: bool(read_topic(run.kafka, LABELS)[1:]), 60.0), "no label"
            assert wait_until(lambda: any(archive.rglob("*.parquet")), 60.0), "nothing archived"
        finally:
            codes = line.stop()
        refused = admin.execute_command("ACL", "LOG")

    logs = "".join(service.log_text() for service in line.services)
    assert refused == []
    assert "AuthorizationFailed" not in logs
    assert set(codes.values()) == {0}
