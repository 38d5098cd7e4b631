"""The plain composition as a side: its three processes, warm, and what each spends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fraudstream.broker.wire.record_keys import DIRECTORY
from fraudstream.topics import ACCEPTED, ENTITIES
from harness.line import Line
from harness.model_repository import PEOPLE, REPOSITORY
from harness.processes import free_port
from harness.service_process import ServiceProcess
from harness.settings import kafka_settings_in
from loadtest.bench.figure import MeasurementFailed
from loadtest.figures.line.drain import Drain
from loadtest.figures.line.servers import Servers

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
    # What it sends has no MACs.
    environment = {name: text for name, text in line.environment.items() if name != DIRECTORY}
    *commands, scorer, cards, entities = (
        ServiceProcess(_MODULE, [role], environment, line.folder / "logs")
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
    _, cards, entities = processes
    groups = {cards.name: ACCEPTED, entities.name: ENTITIES}
    kafka = kafka_settings_in(servers.environment)  # what is sent here has no MACs
    return Drain(kafka, processes, servers, ACCEPTED, groups)
