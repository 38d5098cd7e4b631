"""The Faust batch agent on real brokers: at least once, in order, nothing committed too early."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from demo.processes import wait_until
from demo.servers import Broker, EmbeddedBroker, ValkeyServer
from demo.service_process import ServiceProcess
from demo.settings import kafka_settings_in
from fraudstream.bus import kafka_python_options, kafka_python_producer_options
from fraudstream.topics import ACCEPTED
from tests.batch_worker import GROUP
from tests.conftest import ServiceLauncher, create_topics, environment_of_test

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
        return self._launch("tests.batch_worker", [str(self.folder), name], self._environment)

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
        """Tell whether every record was handled, none skipped."""
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
    """A topic on each of the two brokers in turn."""
    return _world(any_broker, valkey, tmp_path, service)


@pytest.fixture
def kafka_world(
    kafka_broker: Broker, valkey: ValkeyServer, tmp_path: Path, service: ServiceLauncher
) -> AgentWorld:
    """A topic on Apache Kafka."""
    return _world(kafka_broker, valkey, tmp_path, service)


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
