"""Our line as a side: its services as processes, warm, and what each of their parts spends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from demo.line import SERVICES, Line
from demo.service_process import ServiceProcess
from demo.settings import kafka_settings_in
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, ALERTS, ENTITIES, RAW, Topic
from loadtest.bench.figure import Plan, Sample, Side
from loadtest.figures.backlog import BacklogRow
from loadtest.figures.drain import Drain, Part
from loadtest.figures.servers import Servers

# Rows before the measurement: caches are full, every partition has met its consumer.
WARM_UP_ROWS: Final = 500
# What a deployment keeps; the demo keeps every trace.
TELEMETRY: Final = {"FRAUDTELEMETRY_SAMPLE_RATIO": "0.01"}

DECIDING: Final = tuple(s for s in SERVICES if s[0] in ("services.scoring", "services.features"))
# Consumer group of each service, and what it reads.
_GROUPS: Final = {
    "ingest": ("ingest", RAW),
    "features-card": ("features-card", ACCEPTED),
    "features-entity": ("features-entity", ENTITIES),
    "console": ("console", ALERTS),
}


def line_of(
    servers: Servers, folder: Path, services: tuple[tuple[str, tuple[str, ...]], ...]
) -> Line:
    """Return a line of some services with keys and topics made; nothing runs yet."""
    line = Line(folder, servers.environment, TELEMETRY, services)
    line.prepare()
    return line


@contextmanager
def running_line(line: Line) -> Iterator[Line]:
    """Start a line's services and end them."""
    try:
        line.start()
        yield line
    finally:
        line.stop()


def drain_of(line: Line, servers: Servers, topic: Topic) -> Drain:
    """Return what drains backlogs of a topic through a running line, part by part."""
    kafka = kafka_settings_in(servers.environment)
    names = [service.name for service in line.services]
    parts = [Part(service.name, leader_of(service)) for service in line.services]
    parts += server_parts(servers)
    return Drain(kafka, topic, _groups_of(kafka, names), parts, lambda: dead_among(line.services))


def server_parts(servers: Servers) -> list[Part]:
    """Return broker and store as parts; what was not started here cannot be measured."""
    parts = [Part("store", lambda: servers.store_pids)]
    return [*parts, Part("broker", lambda: servers.broker_pids)] if servers.broker_pids else parts


def dead_among(services: list[ServiceProcess]) -> str:
    """Return the end of the log of a service that has ended, empty where all run."""
    for service in services:
        if not service.is_running:
            tail = "\n".join(service.log_text().splitlines()[-15:])
            return f"{service.name} ended with code {service.exit_code}:\n{tail}"
    return ""


def draining(drain: Drain, rows: Iterator[BacklogRow], plan: Plan, full_rows: int) -> Side:
    """Warm a side up and return it: each run drains the next `full_rows` rows, as scaled."""
    drain.run(list(islice(rows, plan.rows(WARM_UP_ROWS))))

    def run() -> Sample:
        return drain.run(list(islice(rows, plan.rows(full_rows))))

    return run


def leader_of(service: ServiceProcess) -> Callable[[], set[int]]:
    """Return what tells a service's process id at any time: a service may be started again."""
    return lambda: {service.pid}


def _groups_of(kafka: KafkaSettings, names: list[str]) -> Mapping[str, Topic]:
    read = [_GROUPS[name] for name in names if name in _GROUPS]
    return {kafka.group(group): topic for group, topic in read}
