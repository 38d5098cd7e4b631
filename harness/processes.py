"""Child processes that leave nothing behind: start, wait until ready, stop within a bound, kill.

Start them from the main thread: the kernel ends a tethered child with the *thread* that started it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from fraudstream.errors import FraudStreamError, Outcome, Retry

POLL_S: Final = 0.02
STOP_TIMEOUT_S: Final = 15.0
LOG_TAIL_LINES: Final = 15
# Below those that Linux gives to outgoing connections.
_SERVER_PORTS: Final = (10_000, 32_768)
# Not `random` itself, which a property test seeds in every process alike.
_RANDOM: Final = random.SystemRandom()
_TETHER: Final = Path(__file__).with_name("tether.py")
# Children run where `python -m services...` and `models/` are found.
PROJECT_FOLDER: Final = Path(__file__).resolve().parent.parent


class ProcessFailed(FraudStreamError):
    """A child process ended or did not become ready in time. The message holds its log's end."""

    outcome = Outcome("UNAVAILABLE", Retry.LATER, os.EX_UNAVAILABLE)


def wait_until(predicate: Callable[[], bool], timeout_s: float, poll_s: float = POLL_S) -> bool:
    """Return whether `predicate` became true within `timeout_s` seconds.

    >>> wait_until(lambda: True, timeout_s=0.0)
    True
    """
    ends_at = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() >= ends_at:
            return False
        time.sleep(poll_s)
    return True


def free_port() -> int:
    """Return a TCP port of loopback that was free a moment ago.

    It is none of those that the system gives to outgoing connections (from 32768 on): one of them
    could take it before the server that it is for.
    """
    while not is_port_free(port := _RANDOM.randrange(*_SERVER_PORTS)):
        pass
    return port


def is_port_free(port: int) -> bool:
    """Return whether a server could listen on this port of loopback now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_port_open(port: int) -> bool:
    """Return whether something accepts connections on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ChildProcess:
    """One child process in its own session, its output in a file.

    Args:
        name: What messages call it.
        command: Program and arguments.
        log_path: File that its stdout and stderr are appended to.
        environment: Variables besides this process's own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path.absolute()
        self._command = list(command)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._is_asked = False

    @property
    def pid(self) -> int:
        """Process id; 0 where it was never started."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs or was never started."""
        return self._process.poll() if self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, more_environment: Mapping[str, str] | None = None) -> None:
        """Start it; returns before it is ready. A second start needs the first to have ended."""
        if self.is_running:
            raise ProcessFailed(f"{self.name} runs already, as process {self.pid}")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        environment = {**os.environ, **self._environment, **(more_environment or {})}
        self._is_asked = False
        tethered = [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *self._command]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # commands are this package's own
                tethered,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=PROJECT_FOLDER,
                start_new_session=True,
            )

    def log_text(self) -> str:
        """Return what it wrote since its last start."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def wait_ready(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `is_ready`, or until it ends.

        Raises:
            ProcessFailed: It ended, or was not ready in time (then it is killed).
        """
        reached = wait_until(lambda: not self.is_running or is_ready(), timeout_s)
        if self.is_running and reached:
            return
        code = self.exit_code
        self.kill()
        why = f"ended with code {code}" if code is not None else f"not ready after {timeout_s:g} s"
        tail = "\n".join(self.log_text().splitlines()[-LOG_TAIL_LINES:])
        raise ProcessFailed(f"{self.name} {why}; the end of {self.log_path}:\n{tail}")

    def wait_end(self, timeout_s: float) -> bool:
        """Return whether it ended by itself within the bound."""
        return wait_until(lambda: not self.is_running, timeout_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process; nothing happens where it has ended."""
        if self.is_running and self._process:
            self._process.send_signal(number)

    def ask_to_end(self) -> None:
        """Send SIGTERM, once: a second one ends many programs before they are done."""
        if not self._is_asked:
            self._is_asked = True
            self.signal(signal.SIGTERM)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
        """End it by SIGTERM, and by SIGKILL after the bound. Returns its exit code."""
        self.ask_to_end()
        self.wait_end(timeout_s)
        self.kill()
        return self.exit_code

    def kill(self) -> None:
        """End it and all that it started by SIGKILL, and reap it."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is gone
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=STOP_TIMEOUT_S)
