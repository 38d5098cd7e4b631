"""Servers of an experiment: one broker for all sides, and a store of its own for each side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.servers import Broker, ValkeyServer
from loadtest.bench.cpu import child_sessions


@dataclass(frozen=True, slots=True)
class Servers:
    """Running servers of one side.

    Attributes:
        environment: Variables that point a side's services at them, with its own prefixes.
        broker_pids: The broker's process; empty for one that was not started here.
        store_pids: The store's process.
    """

    environment: dict[str, str]
    broker_pids: set[int]
    store_pids: set[int]


@contextmanager
def running_broker(broker: Broker) -> Iterator[set[int]]:
    """Start a broker, yield its process, and end it."""
    pids = _started(broker.start)
    try:
        yield pids
    finally:
        broker.stop()


@contextmanager
def side_servers(broker: Broker, pids: set[int], side: str, folder: Path) -> Iterator[Servers]:
    """Start a store for one side, yield the side's servers, and end the store."""
    store = ValkeyServer(folder / f"{side}-valkey")
    store_pids = _started(store.start)
    prefixes = {"FRAUD_KAFKA_TOPIC_PREFIX": f"bench-{side}-", "FRAUD_REDIS_KEY_PREFIX": "bench"}
    environment = {**broker.environment(), **store.environment(), **prefixes}
    try:
        yield Servers(environment, pids, store_pids)
    finally:
        store.stop()


def _started(start: Callable[[], None]) -> set[int]:
    """Return the processes that a call started."""
    before = child_sessions()
    start()
    return child_sessions() - before
