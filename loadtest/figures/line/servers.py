"""Servers and processes of an experiment: a broker for all sides, a store for each, workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings
from harness.line import READY_TIMEOUT_S, Line
from harness.servers import ApacheKafka, Broker, ValkeyServer, choose_broker, lacking_for_kafka
from harness.service_process import ServiceProcess
from loadtest.bench.cpu import child_sessions
from loadtest.bench.figure import Plan

# What a deployment keeps; the demo keeps every trace.
_TELEMETRY: Final = {"FRAUD_TELEMETRY_SAMPLE_RATIO": "0.01"}


@dataclass(frozen=True, slots=True)
class Servers:
    """Variables that point a side's services at its servers, and the servers' processes by name.

    A broker that was not started here has no processes.
    """

    environment: dict[str, str]
    pids: dict[str, set[int]]


def any_broker(plan: Plan) -> Broker:
    """Return the broker that the settings name, else Apache Kafka, else the embedded one."""
    return choose_broker(plan.kafka, plan.machine, plan.folder)


def apache_kafka(plan: Plan) -> ApacheKafka:
    """Return Apache Kafka."""
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


def line_of(
    environment: Mapping[str, str],
    folder: Path,
    services: tuple[tuple[str, tuple[str, ...]], ...] = (),
    more: Mapping[str, str] | None = None,
) -> Line:
    """Return a line of some services with keys and topics made; nothing runs yet."""
    line = Line(folder, environment, {**_TELEMETRY, **(more or {})}, services)
    line.prepare()
    return line


def worker(
    role: str, told: Sequence[str], environment: Mapping[str, str], folder: Path
) -> ServiceProcess:
    """Return a process of `loadtest.workers`, not started yet."""
    return ServiceProcess("loadtest.workers", [role, *told], environment, folder)


@contextmanager
def running(
    processes: Sequence[ServiceProcess], timeout_s: float = READY_TIMEOUT_S
) -> Iterator[None]:
    """Start processes side by side, wait until all are ready, and end them on leaving."""
    try:
        for process in processes:
            process.launch()
        for process in processes:
            process.wait_ready(timeout_s)
        yield
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in reversed(processes):
            process.stop()


def started_by(start: Callable[[], None]) -> set[int]:
    """Return the processes that a call started."""
    before = child_sessions()
    start()
    return child_sessions() - before
