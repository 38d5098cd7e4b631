"""One service of the line as a process of its own, started with a wait for its `ready` line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.processes import ChildProcess, ProcessFailed


def service_name(module: str, arguments: Sequence[str]) -> str:
    """Return what a service's process is called.

    >>> service_name("services.features", ["card"])
    'features-card'
    """
    return "-".join([module.rpartition(".")[2], *arguments])


class ServiceProcess:
    """One service as its own process: `python -m MODULE ARGS`.

    Args:
        module: Such as `services.ingest`.
        arguments: Its command line.
        environment: Variables besides this process's own.
        folder: Where its log file goes.
    """

    def __init__(
        self, module: str, arguments: list[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name = service_name(module, arguments)
        command = [sys.executable, "-m", module, *arguments]
        self._process = ChildProcess(self.name, command, folder / f"{self.name}.log", environment)

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs or was never started."""
        return self._process.exit_code

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process.is_running

    @property
    def pid(self) -> int:
        """Process id; 0 where it was never started."""
        return self._process.pid

    def log_text(self) -> str:
        """Return what it wrote since its last start."""
        return self._process.log_text()

    def start(
        self, timeout_s: float = 60.0, more_environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it and wait for its `ready` line.

        Raises:
            ProcessFailed: It ended, or printed no `ready` in time.
        """
        self.launch(more_environment)
        self.wait_ready(timeout_s)

    def launch(self, more_environment: Mapping[str, str] | None = None) -> None:
        """Start it without waiting."""
        self._process.start(more_environment)

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait for its `ready` line, within the bound. One that was ready may have ended since.

        Raises:
            ProcessFailed: It ended before, or printed no `ready` in time.
        """
        try:
            self._process.wait_ready(self._said_ready, timeout_s)
        except ProcessFailed:
            if not self._said_ready():
                raise

    def stop(self, timeout_s: float = 15.0) -> int | None:
        """End it by SIGTERM, and by SIGKILL after the bound. Returns its exit code."""
        return self._process.stop(timeout_s)

    def terminate(self) -> None:
        """Ask it to end, by SIGTERM, without waiting."""
        self._process.ask_to_end()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()

    def wait_end(self, timeout_s: float) -> bool:
        """Return whether it ended by itself within the bound."""
        return self._process.wait_end(timeout_s)

    def _said_ready(self) -> bool:
        return "ready" in self.log_text().splitlines()
