"""A scoring group of two workers as processes of a test, and callers that reach both."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from fraudstream.v1.scoring_pb2_grpc import ScoringStub
from harness.processes import free_port, is_port_free
from harness.service_process import ServiceProcess
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.scoring_world import Log, free_ports, kafka_settings, open_shards, open_store
from tests.worlds.trust import model_settings

WORKERS: Final = 2


@dataclass
class ScoringGroup:
    """A running group.

    Attributes:
        process: The parent.
        ports: Of `Scoring` and `InternalScoring`.
        metrics_port: Of worker 0; the next ones have the next.
        log: Its topics.
    """

    process: ServiceProcess
    ports: tuple[int, int]
    metrics_port: int
    log: Log

    def messages(self) -> list[str]:
        """Return what the parent and its workers have logged."""
        lines = [line for line in self.process.log_text().splitlines() if line.startswith("{")]
        return [str(json.loads(line)["message"]) for line in lines]

    def pids(self) -> dict[int, int]:
        """Return the process of each worker, the last one where there were several."""
        words = [message.split() for message in self.messages() if " is process " in message]
        return {int(found[1]): int(found[4]) for found in words}

    def decided_by_worker(self) -> list[float]:
        """Return how many decisions each worker counts."""
        return [self._decided(self.metrics_port + number) for number in range(WORKERS)]

    def _decided(self, port: int) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        counts = [line for line in lines if line.startswith("fraud_decisions_total")]
        return sum(float(line.rpartition(" ")[2]) for line in counts)


def group_environment(topics: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the variables of a group that serves the tiny model on free ports."""
    if not (folder / "model").exists():
        tiny_artefact(folder / "model")
    ports = free_ports()
    return {
        **topics,
        **model_settings(folder / "model"),
        "FRAUD_SCORING_PORT": str(ports[0]),
        "FRAUD_SCORING_INTERNAL_PORT": str(ports[1]),
        "FRAUD_SCORING_METRICS_PORT": str(free_port_pair()),
        "FRAUD_SCORING_SWEEP_EVERY_MS": "100",
        "FRAUD_SCORING_SWEEP_AFTER_MS": "300",
    }


def free_port_pair() -> int:
    """Return a port that was free a moment ago, as was the next one."""
    while not is_port_free((port := free_port()) + 1):
        pass
    return port


@asynccontextmanager
async def scoring_group(
    topics: Mapping[str, str], folder: Path, more: Mapping[str, str] | None = None
) -> AsyncIterator[ScoringGroup]:
    """Yield a running group of two workers; the shards are open."""
    environment = {**group_environment(topics, folder), **(more or {})}
    async with open_store(topics) as store:
        await open_shards(store)
    arguments = ["--workers", str(WORKERS)]
    process = ServiceProcess("services.scoring", arguments, environment, folder / "group")
    ports = (
        int(environment["FRAUD_SCORING_PORT"]),
        int(environment["FRAUD_SCORING_INTERNAL_PORT"]),
    )
    metrics_port = int(environment["FRAUD_SCORING_METRICS_PORT"])
    await asyncio.to_thread(process.start, 90.0)
    try:
        yield ScoringGroup(process, ports, metrics_port, Log(kafka_settings(topics)))
    finally:
        await asyncio.to_thread(process.stop)


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[Sequence[ScoringStub]]:
    """Yield stubs with a connection each: the kernel spreads them over the workers."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(count)]
    for channel in channels:
        await channel.channel_ready()
    yield [ScoringStub(channel) for channel in channels]  # type: ignore[no-untyped-call]  # generated
    for channel in channels:
        await channel.close(None)
