"""The plain composition as a side: its three processes, warm, and what each spends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from demo.line import Line
from demo.model_repository import PEOPLE, REPOSITORY
from demo.processes import free_port
from demo.service_process import ServiceProcess
from demo.settings import kafka_settings_in
from fraudstream.topics import ACCEPTED, ENTITIES
from loadtest.bench.figure import MeasurementFailed
from loadtest.figures.drain import Drain, Part
from loadtest.figures.ours import dead_among, leader_of, server_parts
from loadtest.figures.servers import Servers

# Importing Feast takes ten seconds on a quiet machine, minutes on a busy one.
_READY_TIMEOUT_S: Final = 300.0
_MODULE: Final = "loadtest.plain"
PLAIN: Final = ("scorer", "features", "entity")
TUNED: Final = ("scorer", "tuned", "tuned-entity")


@contextmanager
def running_plain(
    servers: Servers, folder: Path, roles: tuple[str, ...] = PLAIN
) -> Iterator[list[ServiceProcess]]:
    """Make the topics, register the feature views where Feast has a part, start some roles."""
    own = {
        "FRAUD_PLAIN_SCORER_PORT": str(free_port()),
        "FRAUD_PLAIN_FOLDER": str(folder.absolute() / "state"),
        "FRAUD_PLAIN_MODEL": str(folder.absolute() / REPOSITORY),
        "FRAUD_PLAIN_PEOPLE_FILE": str(folder.absolute() / PEOPLE),
    }
    line = Line(folder, servers.environment, own, services=())
    line.prepare()
    first = ("register",) if roles is PLAIN else ()
    *commands, scorer, cards, entities = (
        ServiceProcess(_MODULE, [role], line.environment, line.folder / "logs")
        for role in (*first, *roles)
    )
    processes = [scorer, cards, entities]
    try:
        for command in commands:
            _run_to_end(command)
        for process in processes:
            process.launch()
        for process in processes:
            process.wait_ready(_READY_TIMEOUT_S)
        yield processes
    finally:
        for process in (*reversed(processes), *commands):
            process.stop()


def _run_to_end(command: ServiceProcess) -> None:
    command.launch()
    if not command.wait_end(_READY_TIMEOUT_S) or command.exit_code != 0:
        raise MeasurementFailed(f"{command.name} failed: {command.log_text()[-1_000:]}")


def plain_drain(processes: list[ServiceProcess], servers: Servers) -> Drain:
    """Return what drains accepted rows through the plain composition."""
    kafka = kafka_settings_in(servers.environment)
    parts = [Part(process.name, leader_of(process)) for process in processes]
    parts += server_parts(servers)
    _, cards, entities = processes
    groups = {kafka.group(cards.name): ACCEPTED, kafka.group(entities.name): ENTITIES}
    return Drain(kafka, ACCEPTED, groups, parts, lambda: dead_among(processes))
