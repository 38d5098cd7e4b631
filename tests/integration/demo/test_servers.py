"""The servers that the demo and the tests stand on start, answer, end, and leave nothing behind."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.structs import TopicPartition

from fraudstream.settings import KafkaSettings
from harness.processes import ChildProcess, ProcessFailed, wait_until
from harness.servers import (
    ApacheKafka,
    Broker,
    EmbeddedBroker,
    NamedBroker,
    ValkeyServer,
    answers_kafka,
    choose_broker,
)
from harness.settings import MachineSettings

_PARENT = """
import sys
from pathlib import Path
from harness.processes import ChildProcess
child = ChildProcess("sleeper", ["sleep", "300"], Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
sys.stdin.read()
"""


def _is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.both_brokers
def test_any_broker_keeps_a_record(any_broker: Broker) -> None:
    """A record that a broker acknowledged is read back."""
    producer = KafkaProducer(
        bootstrap_servers=any_broker.bootstrap, enable_idempotence=False, acks="all"
    )
    assert answers_kafka(any_broker.bootstrap)

    admin = KafkaAdminClient(bootstrap_servers=any_broker.bootstrap)
    admin.create_topics([NewTopic("kept.once.v1", 1, 1)])
    admin.close()
    producer.send("kept.once.v1", b"value").get(timeout=10)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=any_broker.bootstrap, consumer_timeout_ms=10_000)
    place = TopicPartition("kept.once.v1", 0)
    consumer.assign([place])
    consumer.seek_to_beginning(place)

    assert next(consumer).value == b"value"
    consumer.close()


@pytest.mark.kafka
@pytest.mark.slow
def test_kafka_keeps_its_records_over_a_kill(kafka_broker: ApacheKafka) -> None:
    """Kafka killed by SIGKILL answers again on the same port."""
    bootstrap = kafka_broker.bootstrap
    kafka_broker.kill()
    was_gone = not answers_kafka(bootstrap)
    kafka_broker.start()

    assert was_gone
    assert kafka_broker.bootstrap == bootstrap


def test_valkey_asks_for_its_password(tmp_path: Path) -> None:
    """A Valkey with a password refuses a client without one, and keeps it off its command line."""
    server = ValkeyServer(tmp_path, secrets.token_hex(8))
    server.start()
    port = server.url.rpartition(":")[2].partition("/")[0]

    with redis.Redis(port=int(port)) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
    server.stop()


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """A parent that dies by SIGKILL leaves no child behind."""
    command = [sys.executable, "-c", _PARENT, str(tmp_path / "child.log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        was_alive = wait_until(lambda: _is_alive(child_pid), 5.0)
        parent.kill()

    assert was_alive
    assert wait_until(lambda: not _is_alive(child_pid), 5.0)


def test_a_process_that_ends_early_is_told_with_its_log(tmp_path: Path) -> None:
    """A start that fails says the exit code and the last lines of the log."""
    command = [sys.executable, "-c", "print('no such key'); raise SystemExit(78)"]
    child = ChildProcess("service", command, tmp_path / "service.log")
    child.start()

    with pytest.raises(ProcessFailed, match=r"(?s)code 78.*no such key"):
        child.wait_ready(lambda: False, timeout_s=10.0)


def test_stop_is_bounded(tmp_path: Path) -> None:
    """A process that ignores SIGTERM is killed when the bound is over."""
    program = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('up', flush=True)"
    command = [sys.executable, "-c", f"{program}; sys.stdin.read(); signal.pause()"]
    child = ChildProcess("stubborn", command, tmp_path / "stubborn.log")
    child.start()
    child.wait_ready(lambda: "up" in child.log_text(), timeout_s=10.0)

    assert child.stop(timeout_s=0.2) == -9


def test_the_broker_that_settings_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named broker is used as it is, whatever the machine has."""
    monkeypatch.setenv("FRAUD_KAFKA_BOOTSTRAP", "k:9092")
    chosen = choose_broker(KafkaSettings.read(), MachineSettings(), tmp_path)

    assert isinstance(chosen, NamedBroker)
    assert chosen.bootstrap == "k:9092"


def test_a_machine_without_kafka_gets_the_embedded_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a named broker and without KAFKA_HOME, the embedded broker is chosen."""
    for name in [n for n in os.environ if n.startswith("FRAUD_KAFKA_") or n == "KAFKA_HOME"]:
        monkeypatch.delenv(name)

    assert isinstance(
        choose_broker(KafkaSettings.read(), MachineSettings(), tmp_path), EmbeddedBroker
    )
