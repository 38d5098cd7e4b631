"""The plain composition as a side: its three processes, warm, and what each spends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from demo.line import READY_TIMEOUT_S, Line
from demo.processes import free_port
from demo.service_process import ServiceProcess
from demo.settings import kafka_settings_in
from fraudstream.topics import ACCEPTED, ENTITIES
from loadtest.figures.drain import Drain, Part
from loadtest.figures.ours import dead_among, leader_of, server_parts
from loadtest.figures.servers import Servers

_MODULE: Final = "loadtest.plain"
_ROLES: Final = ("scorer", "features", "entity")


@contextmanager
def running_plain(servers: Servers, folder: Path) -> Iterator[list[ServiceProcess]]:
    """Make the topics, register the feature views, start the processes, and end them."""
    own = {
        "FRAUD_PLAIN_SCORER_PORT": str(free_port()),
        "FRAUD_PLAIN_FOLDER": str(folder.absolute() / "state"),
    }
    line = Line(folder, servers.environment, own, services=())
    line.prepare()
    line.run_command(_MODULE, ["register"])
    processes = [
        ServiceProcess(_MODULE, [role], line.environment, line.folder / "logs") for role in _ROLES
    ]
    try:
        for process in processes:
            process.start(READY_TIMEOUT_S)
        yield processes
    finally:
        for process in reversed(processes):
            process.stop()


def plain_drain(processes: list[ServiceProcess], servers: Servers) -> Drain:
    """Return what drains accepted rows through the plain composition."""
    kafka = kafka_settings_in(servers.environment)
    parts = [Part(process.name, leader_of(process)) for process in processes]
    parts += server_parts(servers)
    groups = {
        kafka.group("plain-features"): ACCEPTED,
        kafka.group("plain-entity"): ENTITIES,
    }
    return Drain(kafka, ACCEPTED, groups, parts, lambda: dead_among(processes))
