"""One consumer at a backlog: it stands still while the records go in, then works them off.

So each poll is full, whatever the producer's speed. CPU is that of the consumer's process alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from fraudstream.broker.clients import OutRecord
from fraudstream.topics import ACCEPTED
from harness.line import Line
from harness.processes import wait_until
from harness.service_process import ServiceProcess
from harness.settings import kafka_settings_in
from loadtest.bench.cpu import session_cpu_us
from loadtest.bench.figure import MeasurementFailed, Sample
from loadtest.figures.line.drain import GroupProgress, append, dead_among

_READY_TIMEOUT_S: Final = 120.0
_TIMEOUT_S: Final = 120.0
_POLL_S: Final = 0.05
_US_PER_S: Final = 1_000_000


class Consumption:
    """One worker, running, and the topic that it reads.

    Args:
        environment: Variables that point it at its servers, with its own prefixes.
        process: The worker.
        group: Its consumer group, without the prefix.
    """

    def __init__(self, environment: Mapping[str, str], process: ServiceProcess, group: str) -> None:
        self._kafka = kafka_settings_in(environment)
        self._process = process
        self._group = GroupProgress(self._kafka, ACCEPTED, self._kafka.group(group))

    @property
    def partitions(self) -> int:
        """Partitions of the topic."""
        return self._group.partitions

    def run(self, records: Sequence[OutRecord]) -> Sample:
        """Work a backlog off; return what each record cost the worker.

        Raises:
            MeasurementFailed: It ended, or did not come to an end in time.
        """
        with self._standing_still():
            asyncio.run(append(self._kafka, ACCEPTED, records))
            before_us = session_cpu_us({self._process.pid})
        started_s = time.monotonic()
        wait_until(self._is_over, _TIMEOUT_S, _POLL_S)
        wall_s = time.monotonic() - started_s
        if dead_among([self._process]) or self._group.uncommitted():
            why = dead_among([self._process]) or f"{self._group.uncommitted()} records are left"
            raise MeasurementFailed(f"{self._process.name}: {why}")
        spent_us = session_cpu_us({self._process.pid}) - before_us
        return {"cpu_us": spent_us / len(records), "wall_us": wall_s * _US_PER_S / len(records)}

    def close(self) -> None:
        """Disconnect."""
        self._group.close()

    def _is_over(self) -> bool:
        return not self._process.is_running or not self._group.uncommitted()

    @contextmanager
    def _standing_still(self) -> Iterator[None]:
        """Stop the worker for a while, shorter than its session in the group."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)


@contextmanager
def running_worker(
    role: str, group: str, environment: Mapping[str, str], folder: Path
) -> Iterator[Consumption]:
    """Make the topics and keys, start one worker, and end it."""
    line = Line(folder, environment, {"FRAUD_TELEMETRY_SAMPLE_RATIO": "0.01"}, services=())
    line.prepare()
    process = ServiceProcess("loadtest.workers", [role], line.environment, line.folder / "logs")
    try:
        process.start(_READY_TIMEOUT_S)
        with closing(Consumption(line.environment, process, group)) as consumption:
            yield consumption
    finally:
        process.stop()
