"""Kills at named crash points, one after another for each service, while the line works."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.line import Line


@dataclass(frozen=True, slots=True)
class Kill:
    """One process end.

    Attributes:
        service: Name of the process, such as `features-card`.
        point: Crash point at which it kills itself.
        passage: At which passage of that point since its start.
    """

    service: str
    point: str
    passage: int


class Killer:
    """Starts the services of a line armed with their next kill, and again after each.

    Args:
        line: Its services, none of them running.
        kills: What shall happen, in order for each service.
    """

    def __init__(self, line: Line, kills: Sequence[Kill]) -> None:
        self._line = line
        self._log = line.folder / "crashes.log"
        self._waiting = {
            service.name: [kill for kill in kills if kill.service == service.name]
            for service in line.services
        }
        self._armed: dict[str, Kill] = {}
        self.landed: list[Kill] = []

    def start(self) -> None:
        """Start every service and wait until all are ready."""
        for service in self._line.services:
            service.launch(self._next_arms(service.name))
        for service in self._line.services:
            service.wait_ready(120.0)

    def tick(self) -> None:
        """Start again what was killed.

        Raises:
            AssertionError: A process ended otherwise than at its crash point.
        """
        for service in self._line.services:
            if service.is_running:
                continue
            kill = self._armed.pop(service.name, None)
            log = service.log_text()[-2_000:]
            assert kill is not None, f"{service.name} ended with {service.exit_code}: {log}"
            assert service.exit_code == -signal.SIGKILL, f"{service.name}: {log}"
            assert self.crashes()[-1:] == [kill.point] or kill.point in self.crashes()
            self.landed.append(kill)
            service.launch(self._next_arms(service.name))

    @property
    def is_done(self) -> bool:
        """Whether every kill has happened."""
        return not self._armed and not any(self._waiting.values())

    def crashes(self) -> list[str]:
        """Return the crash points that processes wrote down before they died."""
        return self._log.read_text().split() if self._log.exists() else []

    def _next_arms(self, name: str) -> dict[str, str]:
        if not self._waiting[name]:
            return {}
        kill = self._waiting[name].pop(0)
        self._armed[name] = kill
        return {
            "FRAUD_CRASH_AT": f"{kill.point}:{kill.passage}",
            "FRAUD_CRASH_LOG": str(Path(self._log)),
        }
