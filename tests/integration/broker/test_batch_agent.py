"""The Faust batch agent on real brokers: at least once, in order, nothing committed too early."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition

from fraudstream.broker.clients import kafka_python_options, kafka_python_producer_options
from fraudstream.topics import ACCEPTED
from harness.processes import wait_until
from harness.servers import Broker, EmbeddedBroker, ValkeyServer
from harness.service_process import ServiceProcess
from harness.settings import kafka_settings_in
from tests.conftest import ServiceLauncher, create_topics, environment_of_test
from tests.fakes.batch_worker import GROUP
from tests.material.kafka_bytes import write_foreign

pytestmark = pytest.mark.slow

_WAIT_S = 90.0
Effects = dict[int, list[tuple[int, int]]]


class AgentWorld:
    """One topic, and the journal of the workers that read it."""

    def __init__(
        self, environment: Mapping[str, str], folder: Path, launch: ServiceLauncher
    ) -> None:
        self._environment = environment
        self._launch = launch
        self._kafka = kafka_settings_in(environment)
        self.folder = folder
        self._ends: dict[int, int] = {}
        self._producer = KafkaProducer(**kafka_python_producer_options(self._kafka))

    def start(self, name: str) -> ServiceProcess:
        """Start a worker."""
        return self._launch("tests.fakes.batch_worker", [str(self.folder), name], self._environment)

    def tell(self, word: str) -> None:
        """Change what handlers do from now on."""
        (self.folder / word).touch()

    def untell(self, word: str) -> None:
        """Take it back."""
        (self.folder / word).unlink()

    def put(self, count: int, partitions: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        """Append `count` records to each of some partitions; acknowledged on return."""
        topic = self._kafka.topic(ACCEPTED)
        for partition in partitions:
            for number in range(count):
                self._producer.send(topic, key=b"k", value=b"%d" % number, partition=partition)
            self._ends[partition] = self._ends.get(partition, 0) + count
        self._producer.flush()

    def expect_end(self, partition: int, end: int) -> None:
        """Take note of a partition that was written by another."""
        self._ends[partition] = end

    def topic(self) -> str:
        """Return the topic's name."""
        return self._kafka.topic(ACCEPTED)

    def bootstrap(self) -> str:
        """Return the broker's address."""
        return self._kafka.bootstrap

    def journal(self, *first: str) -> list[list[str]]:
        """Return the lines of the journal whose second word is one of `first`."""
        path = self.folder / "journal"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if not first or line[1] in first]

    def effects(self) -> Effects:
        """Return what was handled of each partition, as ranges in order."""
        found: Effects = {}
        for _, _, partition, begin, end in self.journal("rows"):
            found.setdefault(int(partition), []).append((int(begin), int(end)))
        return found

    def is_all_handled(self) -> bool:
        """Return whether every record was handled, none skipped."""
        for partition, end in self._ends.items():
            at = 0
            for begin, to in self.effects().get(partition, []):
                at = max(at, to) if begin <= at else at
            if at < end:
                return False
        return True

    def committed(self) -> dict[int, int | None]:
        """Return the committed position of each partition that holds records."""
        group = self._kafka.group(GROUP)
        consumer = KafkaConsumer(group_id=group, **kafka_python_options(self._kafka))
        topic = self._kafka.topic(ACCEPTED)
        found = {p: consumer.committed(TopicPartition(topic, p)) for p in self._ends}
        consumer.close()
        return found

    def ends(self) -> dict[int, int]:
        """Return how many records each partition holds."""
        return dict(self._ends)


def _world(
    broker: Broker, valkey: ValkeyServer, folder: Path, service: ServiceLauncher
) -> AgentWorld:
    environment = environment_of_test(broker, valkey)
    create_topics(environment, folder)
    return AgentWorld(environment, folder, service)


@pytest.fixture
def world(
    any_broker: Broker, valkey: ValkeyServer, tmp_path: Path, service: ServiceLauncher
) -> AgentWorld:
    """A topic on `any_broker`."""
    return _world(any_broker, valkey, tmp_path, service)


@pytest.fixture
def kafka_world(
    kafka_broker: Broker, valkey: ValkeyServer, tmp_path: Path, service: ServiceLauncher
) -> AgentWorld:
    """A topic on Apache Kafka."""
    return _world(kafka_broker, valkey, tmp_path, service)


@pytest.mark.both_brokers
def test_failed_batch_is_given_again_in_order_one_poll_at_a_time(world: AgentWorld) -> None:
    """A handler's exception loses nothing, skips nothing, and never overlaps the next poll."""
    world.tell("fail")
    world.put(200)
    worker = world.start("one")

    assert wait_until(world.is_all_handled, _WAIT_S)
    assert worker.stop() == 0
    words = [line[1] for line in world.journal("begin", "raise", "end")]
    assert words.count("raise") == 1
    assert words[:4] == ["begin", "raise", "begin", "end"]
    assert words[2:] == ["begin", "end"] * (len(words[2:]) // 2)
    for ranges in world.effects().values():
        assert [begin for begin, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert world.committed() == world.ends()


def test_sigterm_mid_batch_finishes_and_commits_it(world: AgentWorld) -> None:
    """The poll in flight is worked off and its offsets are committed; then the worker ends."""
    world.tell("hold")
    world.put(20)
    worker = world.start("one")
    assert wait_until(lambda: bool(world.journal("begin")), _WAIT_S)

    worker.terminate()
    is_waiting = not worker.wait_end(1.0)
    world.untell("hold")

    assert is_waiting
    assert worker.wait_end(30.0)
    assert worker.exit_code == 0
    handled = {partition: ranges[-1][1] for partition, ranges in world.effects().items()}
    assert handled
    assert {p: at for p, at in world.committed().items() if at is not None} == handled


def test_only_finished_shards_are_committed(world: AgentWorld) -> None:
    """A shard that failed stays uncommitted, and the others of the poll do not wait for it."""
    world.tell("skip")
    world.put(20)
    worker = world.start("one")

    assert wait_until(world.is_all_handled, _WAIT_S)
    assert worker.stop() == 0
    assert world.committed() == {**world.ends(), 0: None}


@pytest.mark.both_brokers
def test_what_no_client_can_read_is_stepped_over(world: AgentWorld) -> None:
    """A worker that finished the records before it has finished the log, also after a restart."""
    world.put(2, partitions=(1,))
    write_foreign(world.bootstrap(), world.topic(), 1)
    worker = world.start("one")

    assert wait_until(lambda: world.committed() == {1: 3}, _WAIT_S)
    assert worker.stop() == 0
    world.put(1, partitions=(1,))
    world.start("two")
    assert wait_until(lambda: world.committed() == {1: 4}, _WAIT_S)
    assert world.effects() == {1: [(0, 2), (3, 4)]}


@pytest.mark.kafka
def test_markers_and_aborted_records_leave_no_lag(kafka_world: AgentWorld) -> None:
    """A log that holds nothing else is finished to its end, and nothing of it is handled."""
    topic = kafka_world.topic()
    outbox = Producer({"bootstrap.servers": kafka_world.bootstrap(), "transactional.id": "outbox"})
    outbox.init_transactions()
    outbox.begin_transaction()
    outbox.produce(topic, value=b"aborted", partition=2)
    outbox.flush()
    outbox.abort_transaction()
    kafka_world.expect_end(2, 2)
    kafka_world.start("one")

    assert wait_until(lambda: kafka_world.committed() == {2: 2}, _WAIT_S)
    assert kafka_world.effects() == {}


@pytest.mark.kafka
def test_what_retention_took_is_said(kafka_world: AgentWorld) -> None:
    """A worker goes on at the first record that is left, and says how many it never saw."""
    kafka_world.put(5, partitions=(1,))
    first = kafka_world.start("one")
    assert wait_until(lambda: kafka_world.committed() == {1: 5}, _WAIT_S)
    assert first.stop() == 0
    kafka_world.put(5, partitions=(1,))
    with closing(KafkaAdminClient(bootstrap_servers=kafka_world.bootstrap())) as admin:
        admin.delete_records({TopicPartition(kafka_world.topic(), 1): 8})

    again = kafka_world.start("two")

    assert wait_until(lambda: kafka_world.committed() == {1: 10}, _WAIT_S)
    assert kafka_world.effects() == {1: [(0, 5), (8, 10)]}
    assert "partition 1: 3 offsets were deleted before they were read" in again.log_text()


@pytest.mark.kafka
def test_workers_join_and_leave_without_loss_or_repeat(kafka_world: AgentWorld) -> None:
    """Partitions move between two workers; every record is handled once."""
    world = kafka_world
    first = world.start("one")
    world.put(50)
    assert wait_until(world.is_all_handled, _WAIT_S)
    world.start("two")
    assert wait_until(lambda: any(line[0] == "two" for line in world.journal("assigned")), _WAIT_S)
    world.put(50)
    assert wait_until(world.is_all_handled, _WAIT_S)

    assert first.stop() == 0
    world.put(50)

    assert wait_until(world.is_all_handled, _WAIT_S)
    for ranges in world.effects().values():
        assert [begin for begin, _ in ranges] == [0, *(end for _, end in ranges[:-1])]


@pytest.mark.kafka
def test_kill_mid_batch_loses_nothing(kafka_world: AgentWorld) -> None:
    """What was begun and not finished is given to the next worker."""
    world = kafka_world
    world.tell("hold")
    world.put(100)
    killed = world.start("one")
    assert wait_until(lambda: bool(world.journal("begin")), _WAIT_S)

    killed.kill()
    world.untell("hold")
    world.start("two")

    assert wait_until(world.is_all_handled, _WAIT_S)
    assert {line[0] for line in world.journal("rows")} == {"two"}


@pytest.mark.parametrize(
    "moment",
    ["ready", "Thread]: Starting", "(Re-)joining group"],
    ids=["before it starts", "starting", "joining"],
)
def test_stop_is_clean_at_any_moment(
    line_env: Mapping[str, str], tmp_path: Path, service: ServiceLauncher, moment: str
) -> None:
    """A stop that was asked for is no failure, however far the worker has come."""
    world = AgentWorld(line_env, tmp_path, service)
    create_topics(line_env, tmp_path)
    worker = world.start("one")
    assert wait_until(lambda: moment in worker.log_text(), _WAIT_S)

    assert worker.stop() == 0


def test_stop_is_clean_while_the_broker_is_away(
    valkey: ValkeyServer, tmp_path: Path, service: ServiceLauncher
) -> None:
    """What cannot be committed is given again: a stop does not wait for the broker's return."""
    broker = EmbeddedBroker(tmp_path / "broker")
    broker.start()
    world = _world(broker, valkey, tmp_path, service)
    world.tell("hold")
    world.put(20)
    worker = world.start("one")
    assert wait_until(lambda: bool(world.journal("begin")), _WAIT_S)

    broker.stop()
    world.untell("hold")

    assert worker.stop(30.0) == 0
    assert world.journal("rows")
