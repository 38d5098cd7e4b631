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
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED
from harness.processes import wait_until
from harness.service_process import ServiceProcess
from harness.settings import kafka_settings_in
from loadtest.bench.cpu import session_cpu_us
from loadtest.bench.figure import MeasurementFailed, Sample
from loadtest.figures.line.drain import GroupProgress, append, dead_among
from loadtest.figures.line.servers import line_of, running, worker

_TIMEOUT_S: Final = 120.0
_POLL_S: Final = 0.05
_US_PER_S: Final = 1_000_000


class Consumption:
    """One running worker, and how far its consumer group has come on the accepted topic."""

    def __init__(self, kafka: KafkaSettings, process: ServiceProcess, group: str) -> None:
        self._kafka = kafka
        self._process = process
        self._group = GroupProgress(kafka, ACCEPTED, kafka.group(group))
        self.partitions = self._group.partitions
        self.close = self._group.close

    def run(self, records: Sequence[OutRecord]) -> Sample:
        """Work a backlog off to its end; return what each record cost the worker."""
        os.killpg(self._process.pid, signal.SIGSTOP)  # shorter than its session in the group
        try:
            asyncio.run(append(self._kafka, ACCEPTED, records))
            before_us = session_cpu_us({self._process.pid})
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)
        started_s = time.monotonic()
        wait_until(self._is_over, _TIMEOUT_S, _POLL_S)
        wall_s = time.monotonic() - started_s
        left = self._group.uncommitted()
        if dead_among([self._process]) or left:
            why = dead_among([self._process]) or f"{left} records are left"
            raise MeasurementFailed(f"{self._process.name}: {why}")
        spent_us = session_cpu_us({self._process.pid}) - before_us
        return {"cpu_us": spent_us / len(records), "wall_us": wall_s * _US_PER_S / len(records)}

    def _is_over(self) -> bool:
        return not self._process.is_running or not self._group.uncommitted()


@contextmanager
def running_worker(
    role: str, group: str, environment: Mapping[str, str], folder: Path
) -> Iterator[Consumption]:
    """Make the topics and keys, start one worker, and end it."""
    line = line_of(environment, folder)
    process = worker(role, (), line.environment, line.folder / "logs")
    with running([process]):
        consumption = Consumption(kafka_settings_in(line.environment), process, group)
        with closing(consumption):
            yield consumption
