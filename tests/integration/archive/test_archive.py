"""The archive on a real broker: every row once, whoever is killed when."""

from __future__ import annotations

import os
import resource
import signal
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from fraudstream.archive.files import check_contiguous, list_files
from fraudstream.topics import ACCEPTED, DECISIONS, LABELS, SHADOWED, Topic
from fraudstream.v1.decision_pb2 import Action
from harness.processes import free_port, wait_until
from harness.service_process import ServiceProcess
from services.archive.cli import main
from tests.conftest import ServiceLauncher, create_topics
from tests.material.kafka_bytes import write_foreign, write_junk
from tests.worlds.archive_records import (
    accepted,
    archived,
    decision,
    label,
    shadow,
    transaction_ids,
)

TIMEOUT_S = 90.0
NOUNS = {"accepted": (ACCEPTED, accepted), "decisions": (DECISIONS, decision)}
NOUNS["labels"] = (LABELS, label)
NOUNS["shadows"] = (SHADOWED, shadow)
# Where, and at which passage: one poll reads all, but each partition has a file of its own.
CRASH_POINTS = [
    "archive.after_read:1",
    "archive.after_row_group:2",
    "archive.before_rename:2",
    "archive.after_rename:2",
]


class World:
    """The archived topics of a test, and its archive."""

    def __init__(self, environment: Mapping[str, str], root: Path) -> None:
        self.root = root
        self.environment = {
            **environment,
            "FRAUD_ARCHIVE_ROOT": str(root),
            "FRAUD_ARCHIVE_MAX_AGE_S": "0.5",
        }
        self._prefix = environment["FRAUD_KAFKA_TOPIC_PREFIX"]
        self.bootstrap = environment["FRAUD_KAFKA_BOOTSTRAP"]
        self._producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, enable_idempotence=False, acks=1
        )
        self.sent: dict[str, list[str]] = {noun: [] for noun in NOUNS}

    def send(self, first: int, number: int) -> None:
        """Append so many records to each topic, over all partitions."""
        for noun, (topic, make) in NOUNS.items():
            for one in range(first, first + number):
                self.append(topic, f"card{one}".encode(), make(one).SerializeToString())
                self.sent[noun].append(f"t{one}")
        self._producer.flush(timeout=TIMEOUT_S)

    def append(self, topic: Topic, key: bytes, value: bytes) -> None:
        """Append one record."""
        self._producer.send(self.topic(topic), key=key, value=value)

    def topic(self, topic: Topic) -> str:
        """Return the name of a topic of this test."""
        return self._prefix + topic.name

    def has_all(self) -> bool:
        """Return whether the archive holds as many rows as were sent."""
        return all(
            len(transaction_ids(self.root, noun)) >= len(sent) for noun, sent in self.sent.items()
        )

    def assert_each_once(self) -> None:
        """Every row is there once, and no file overlaps another or leaves a hole."""
        assert wait_until(self.has_all, TIMEOUT_S, poll_s=0.2)
        for noun, sent in self.sent.items():
            assert transaction_ids(self.root, noun) == sorted(sent), noun
            check_contiguous(list_files(self.root / noun))

    def replace_topics(self, folder: Path) -> None:
        """Delete the topics and make them again, under the same names."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        names = [self._prefix + topic.name for topic, _ in NOUNS.values()]
        admin.delete_topics(names)
        assert wait_until(lambda: not set(names) & set(admin.list_topics()), TIMEOUT_S)
        admin.close()
        create_topics(self.environment, folder)

    def close(self) -> None:
        """Disconnect."""
        self._producer.close()


@pytest.fixture
def world(any_line_env: dict[str, str], tmp_path: Path) -> Iterator[World]:
    """Topics and an archive with nothing in them."""
    create_topics(any_line_env, tmp_path)
    world = World(any_line_env, tmp_path / "archive")
    yield world
    world.close()


def test_what_no_client_can_read_leaves_the_archive_whole(
    world: World, service: ServiceLauncher
) -> None:
    """It belongs to the file after it, is no hole, and all around it is archived once."""
    world.send(0, 20)
    for topic, _ in NOUNS.values():
        for partition in range(6):
            write_foreign(world.bootstrap, world.topic(topic), partition)
            if world.environment["FRAUD_KAFKA_IS_EMBEDDED"] == "true":
                write_junk(world.bootstrap, world.topic(topic), partition)
    world.send(20, 20)
    worker = service("services.archive", [], world.environment)

    world.assert_each_once()
    assert "cannot be read and is passed over" in worker.log_text()
    assert worker.stop() == 0


def run_main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run the command line in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        for name, content in environment.items():
            patch.setenv(name, content)
        return main(arguments)


@pytest.mark.both_brokers
def test_every_record_is_archived_once(world: World, service: ServiceLauncher) -> None:
    """Before the start, after it, and after a stop and another start."""
    world.send(0, 50)
    worker = service("services.archive", [], world.environment)
    world.send(50, 50)
    assert wait_until(world.has_all, TIMEOUT_S, poll_s=0.2), worker.log_text()
    stopped = worker.stop()
    world.send(100, 50)
    service("services.archive", [], world.environment)

    world.assert_each_once()
    assert stopped == 0
    row = archived(world.root, "accepted").to_pylist()[0]
    assert row["kind"] == "purchase"
    assert row["arrival_time_ms"] > row["event_time_ms"]


def test_a_stop_finishes_the_files(world: World, service: ServiceLauncher) -> None:
    """SIGTERM, long before a file is due by its age: what was read is kept, exit code 0."""
    slow = {**world.environment, "FRAUD_ARCHIVE_MAX_AGE_S": "3600"}
    worker = service("services.archive", [], slow)
    world.send(0, 60)
    work = world.root / ".work"
    has_read = wait_until(lambda: len(list(work.glob("*/*/*.tmp"))) > 10, TIMEOUT_S)

    assert has_read, worker.log_text()
    before = {noun: transaction_ids(world.root, noun) for noun in NOUNS}
    assert worker.stop() == 0
    assert before == {noun: [] for noun in NOUNS}
    assert any(transaction_ids(world.root, noun) for noun in NOUNS)
    service("services.archive", [], world.environment)
    world.assert_each_once()
    assert list(work.glob("*/*/*.tmp")) == []


def test_a_full_disk_ends_the_worker_in_one_sentence(
    world: World, service: ServiceLauncher
) -> None:
    """Exit code 75 in the system's words, no traceback; with room again nothing is missing."""
    worker = service("services.archive", [], world.environment)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    world.send(0, 300)
    has_ended = worker.wait_end(TIMEOUT_S)
    log = worker.log_text()
    service("services.archive", [], world.environment)

    assert has_ended, log
    assert worker.exit_code == os.EX_TEMPFAIL
    assert "archive: cannot write: [Errno 27]" in log
    assert "File too large" in log
    assert "Traceback" not in log
    assert "Exception ignored" not in log
    world.assert_each_once()


def test_a_fork_from_any_producer_is_counted_and_logged(
    world: World, service: ServiceLauncher
) -> None:
    """A second, different decision by librdkafka, of one from before the archive's restart."""
    port = free_port()
    settings = {**world.environment, "FRAUD_ARCHIVE_METRICS_PORT": str(port)}
    world.send(0, 5)
    before = service("services.archive", [], settings)
    assert wait_until(world.has_all, TIMEOUT_S, poll_s=0.2)
    before.stop()
    worker = service("services.archive", [], settings)
    other = decision(3)
    other.action, other.score = Action.ACTION_APPROVE, 0.01
    stranger = Producer({"bootstrap.servers": world.bootstrap, "partitioner": "murmur2"})

    for number, message in ((4, decision(4)), (3, other)):
        world.sent["decisions"].append(message.transaction_id)
        stranger.produce(
            world.topic(DECISIONS), message.SerializeToString(), f"card{number}".encode()
        )
    assert stranger.flush(TIMEOUT_S) == 0
    world.assert_each_once()

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert "fraud_decision_forks_total 1.0" in answer.read().decode()
    assert "1 decisions differ from an earlier one" in worker.log_text()


@pytest.mark.slow
def test_a_kill_anywhere_loses_and_doubles_nothing(
    world: World, service: ServiceLauncher, tmp_path: Path
) -> None:
    """After reading, amid a file, before and after its renaming."""
    log = tmp_path / "crashes"
    for number, point in enumerate(CRASH_POINTS):
        world.send(number * 30, 30)
        crashing = {"FRAUD_CRASH_AT": point, "FRAUD_CRASH_LOG": str(log)}
        doomed = ServiceProcess("services.archive", [], world.environment | crashing, tmp_path)
        doomed.launch()
        ended = doomed.wait_end(TIMEOUT_S)
        doomed.kill()
        assert ended, (point, doomed.log_text())
    service("services.archive", [], world.environment)

    world.assert_each_once()
    assert log.read_text().split() == [point.partition(":")[0] for point in CRASH_POINTS]


@pytest.mark.slow
def test_a_second_worker_shares_the_work(
    world: World, service: ServiceLauncher, tmp_path: Path
) -> None:
    """It takes partitions over while records come, and all of them when the first is killed."""
    first = service("services.archive", [], world.environment)
    world.send(0, 40)
    second = ServiceProcess("services.archive", [], world.environment, tmp_path)
    second.launch()
    world.send(40, 40)
    try:
        second.wait_ready(TIMEOUT_S)
        world.send(80, 40)
        world.assert_each_once()
        first.kill()
        world.send(120, 40)
        world.assert_each_once()
    finally:
        second.stop()


@pytest.mark.slow
def test_a_frozen_worker_and_its_successor_write_no_row_twice(
    world: World, service: ServiceLauncher, tmp_path: Path
) -> None:
    """Thawed, it finishes what it had read; who was given its partitions waits for its lock."""
    slow = {**world.environment, "FRAUD_ARCHIVE_MAX_AGE_S": "3600"}
    frozen = service("services.archive", [], slow)
    world.send(0, 60)
    work = world.root / ".work"
    assert wait_until(lambda: len(list(work.glob("*/*/*.tmp"))) > 10, TIMEOUT_S)
    os.kill(frozen.pid, signal.SIGSTOP)
    successor = ServiceProcess("services.archive", [], world.environment, tmp_path)
    successor.launch()
    try:
        successor.wait_ready(TIMEOUT_S)
        world.send(60, 60)
        os.kill(frozen.pid, signal.SIGCONT)
        ended = frozen.stop(timeout_s=TIMEOUT_S)
        world.assert_each_once()
    finally:
        successor.stop()

    assert ended == 0


def test_a_topic_made_anew_while_away_is_archived_beside_the_old_one(
    world: World, service: ServiceLauncher, tmp_path: Path
) -> None:
    """The same offsets, another log: both are kept, and neither counts for the other."""
    world.send(0, 20)
    worker = service("services.archive", [], world.environment)
    world.assert_each_once()
    worker.stop()
    world.replace_topics(tmp_path)
    world.send(100, 30)
    service("services.archive", [], world.environment)

    world.assert_each_once()
    logs = {file.log for file in list_files(world.root / "accepted")}
    assert len(logs) == 2


def test_a_topic_made_anew_while_running_ends_the_worker(
    world: World, service: ServiceLauncher, tmp_path: Path
) -> None:
    """What it read is not kept under the old log's name (75); the next start begins again."""
    world.send(0, 20)
    worker = service("services.archive", [], world.environment)
    world.assert_each_once()
    world.replace_topics(tmp_path)
    world.send(100, 30)
    assert worker.wait_end(TIMEOUT_S), worker.log_text()
    service("services.archive", [], world.environment)

    world.assert_each_once()
    assert worker.exit_code == 75
    assert len({file.log for file in list_files(world.root / "accepted")}) == 2


def test_unreadable_records_stop_nothing(world: World, service: ServiceLauncher) -> None:
    """They are logged by their places; what comes after them is archived."""
    world.append(ACCEPTED, b"card0", b"\xff\xff")
    world.send(0, 10)
    worker = service("services.archive", [], world.environment)

    world.assert_each_once()
    assert "offset 0 is passed over, DECODE: expected a message" in worker.log_text()


@pytest.mark.slow
def test_check_tells_what_there_is_and_what_is_missing(
    world: World, service: ServiceLauncher, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole: exit 0 and one line a noun. A file taken away from between two: exit 78."""
    for first in (0, 100, 200):
        world.send(first, 30)
        worker = service("services.archive", [], world.environment)
        world.assert_each_once()
        worker.stop()
    whole = run_main(["check"], world.environment)
    told = capsys.readouterr().out
    files = [f for f in list_files(world.root / "labels") if f.partition == 0]
    assert len(files) >= 3
    files[1].path.unlink()
    broken = run_main(["check"], world.environment)

    assert (whole, broken) == (0, 78)
    assert '"noun": "labels"' in told
    assert f"offsets {files[1].first} to {files[1].last} are missing" in capsys.readouterr().err


def test_missing_topics_are_said_so(
    any_line_env: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the command that makes them (78)."""
    environment = {**any_line_env, "FRAUD_ARCHIVE_ROOT": str(tmp_path)}

    assert run_main([], environment) == 78
    assert "fraudstream ingest topics create" in capsys.readouterr().err
