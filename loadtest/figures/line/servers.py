"""Servers of an experiment: one broker for all sides, and a store of its own for each side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fraudstream.errors import InvalidSettings
from harness.servers import ApacheKafka, Broker, ValkeyServer, choose_broker, lacking_for_kafka
from loadtest.bench.cpu import child_sessions
from loadtest.bench.figure import Plan


@dataclass(frozen=True, slots=True)
class Servers:
    """Running servers of one side.

    Attributes:
        environment: Variables that point a side's services at them, with its own prefixes.
        pids: Processes of broker and store; none for a broker that was not started here.
    """

    environment: dict[str, str]
    pids: dict[str, set[int]]


def any_broker(plan: Plan) -> Broker:
    """Return the broker that the settings name, else Apache Kafka, else the embedded one."""
    return choose_broker(plan.kafka, plan.machine, plan.folder)


def apache_kafka(plan: Plan) -> ApacheKafka:
    """Return Apache Kafka.

    Raises:
        InvalidSettings: It is not on this machine.
    """
    home, java = plan.machine.kafka_home, plan.machine.java
    if home is None or java is None:
        raise InvalidSettings(lacking_for_kafka(plan.machine))
    return ApacheKafka(home, plan.folder / "kafka", java)


@contextmanager
def running_broker(broker: Broker) -> Iterator[Servers]:
    """Start a broker, yield it, and end it."""
    pids = started_by(broker.start)
    try:
        yield Servers(broker.environment(), {"broker": pids} if pids else {})
    finally:
        broker.stop()


@contextmanager
def side_servers(broker: Servers, side: str, folder: Path) -> Iterator[Servers]:
    """Start a store for one side, yield the side's servers, and end the store."""
    store = ValkeyServer(folder / f"{side}-valkey")
    pids = {"store": started_by(store.start), **broker.pids}
    prefixes = {"FRAUD_KAFKA_TOPIC_PREFIX": f"bench-{side}-", "FRAUD_REDIS_KEY_PREFIX": "bench"}
    try:
        yield Servers({**broker.environment, **store.environment(), **prefixes}, pids)
    finally:
        store.stop()


def started_by(start: Callable[[], None]) -> set[int]:
    """Return the processes that a call started."""
    before = child_sessions()
    start()
    return child_sessions() - before
