"""A parent and its workers: N processes on the same two ports, by SO_REUSEPORT.

The kernel spreads connections, not calls, over the workers. They are started by command, never
forked: gRPC does not survive a fork. A worker that dies is started again after a pause; one that
never was ready ends the group with its exit code, as it would have ended alone. One that hangs, so
that its event loop sends no sign of life, is killed and started again. At SIGTERM all drain
together. A worker whose parent is gone ends too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

from fraudstream.errors import InvalidSettings
from fraudstream.runtime.readiness import say_ready
from services.scoring.settings import ScoringSettings

_PAUSE_FIRST_S: Final = 0.5
_PAUSE_LONGEST_S: Final = 30.0
# A worker that lived so long did not die of how it was started.
_CALM_S: Final = 60.0
# A worker that is ready says every second that it lives, and is killed after so many looks without
# it: a round of decisions takes a fiftieth of one, and nothing is missed while this process stands
# still itself.
ALIVE: Final = b"alive"
_LOOK_S: Final = 1.0
_HUNG_LOOKS: Final = 10
# Beyond the grace for calls: what a worker needs to publish what they left, and to disconnect.
_DRAIN_S: Final = 10.0

_HELD_ALONE: Final = socket.SO_REUSEADDR
_HELD_TOGETHER: Final = socket.SO_REUSEPORT

_LOG: Final = logging.getLogger(__name__)


def run_group(settings: ScoringSettings) -> int:
    """Run the workers until SIGTERM; return the group's exit code.

    Raises:
        InvalidSettings: Somebody else listens on a port.
    """
    with ExitStack() as stack:
        ports = [
            reserve_port(settings.host, port, stack)
            for port in (settings.port, settings.internal_port)
        ]
        _LOG.info("Scoring on %s:%d, InternalScoring on %d", settings.host, *ports)
        environment = {
            "FRAUD_SCORING_PORT": str(ports[0]),
            "FRAUD_SCORING_INTERNAL_PORT": str(ports[1]),
        }
        group = WorkerGroup(settings.processes, environment, settings.grace_s + _DRAIN_S)
        return asyncio.run(group.run())


@dataclass(slots=True)
class _Worker:
    """One slot of the group, and the process that fills it now."""

    number: int
    process: asyncio.subprocess.Process | None = None
    was_ready: bool = False
    lives: int = 0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where no process is."""
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)


class WorkerGroup:
    """Starts, watches and ends the workers.

    Args:
        count: How many.
        environment: Variables besides this process's own.
        patience_s: How long workers may drain before they are killed.
    """

    def __init__(self, count: int, environment: Mapping[str, str], patience_s: float) -> None:
        self._workers = [_Worker(number) for number in range(count)]
        self._environment = {**os.environ, **environment}
        self._patience_s = patience_s
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until a worker refuses to start; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        keepers = [asyncio.create_task(self._keep(worker)) for worker in self._workers]
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([stopping, *keepers], return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        _, slow = await asyncio.wait(keepers, timeout=self._patience_s)
        if slow:
            _LOG.error("%d workers did not end in time and are killed", len(slow))
            for worker in self._workers:
                worker.signal(signal.SIGKILL)
        codes = await asyncio.gather(*keepers)
        return next((code for code in codes if code != os.EX_OK), os.EX_OK)

    async def _keep(self, worker: _Worker) -> int:
        """Keep one slot filled; return an exit code when the group stops, or has to."""
        pause_s = _PAUSE_FIRST_S
        while True:
            started_s = time.monotonic()
            code = await self._live(worker)
            if self._stop.is_set():
                return _exit_code(code, worker)
            if not worker.was_ready:
                _LOG.error("worker %d did not start (code %d); the group ends", worker.number, code)
                return _exit_code(code, worker) or os.EX_SOFTWARE
            if time.monotonic() - started_s > _CALM_S:
                pause_s = _PAUSE_FIRST_S
            message = "worker %d ended with code %d; it is started again in %.1f s"
            _LOG.error(message, worker.number, code, pause_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)
                return os.EX_OK
            pause_s = min(2 * pause_s, _PAUSE_LONGEST_S)

    async def _live(self, worker: _Worker) -> int:
        """Start a process in a slot, and return its exit code when it has ended.

        It holds the other end of its stdin: where this process dies, the worker reads the end.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.scoring", "--worker", str(worker.number)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        worker.process, worker.lives = process, 0
        if self._stop.is_set():  # it was told to stop while it was being made
            worker.signal(signal.SIGTERM)
        _LOG.info("worker %d is process %d", worker.number, process.pid)
        watching = asyncio.create_task(self._watch(worker))
        if process.stdout is not None:
            async for line in process.stdout:
                worker.lives += 1
                if line.strip() == b"ready":
                    self._note_ready(worker)
        watching.cancel()
        return await process.wait()

    async def _watch(self, worker: _Worker) -> None:
        """Kill a worker that has said that it lives, and says so no more."""
        seen, looks = 0, 0
        while looks < _HUNG_LOOKS:
            await asyncio.sleep(_LOOK_S)
            looks = looks + 1 if worker.lives == seen and seen else 0
            seen = worker.lives
        _LOG.error("worker %d hangs: no sign of life in %d s; it is killed", worker.number, looks)
        worker.signal(signal.SIGKILL)

    def _note_ready(self, worker: _Worker) -> None:
        _LOG.info("worker %d is ready", worker.number)
        was_complete = all(each.was_ready for each in self._workers)
        worker.was_ready = True
        if not was_complete and all(each.was_ready for each in self._workers):
            say_ready()


def _exit_code(code: int, worker: _Worker) -> int:
    """Return what the group says of a worker's end; a signal has no code of sysexits.

    A worker that SIGTERM met before it could handle it ended as it was told to.
    """
    if code == -signal.SIGTERM and not worker.was_ready:
        return os.EX_OK
    return os.EX_SOFTWARE if code < 0 else code


def reserve_port(host: str, port: int, stack: ExitStack) -> int:
    """Hold a port until the stack ends, and return it; port 0 takes any free one.

    The socket never listens, so it gets no connection, but nobody takes the port while workers
    come and go. With SO_REUSEPORT a second group of ours would share the port unasked: it is first
    bound without.

    Raises:
        InvalidSettings: Another process is there, or the host is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, kind, _, _, address = found[0]
        if port:
            with _bound(family, kind, address, _HELD_ALONE):
                pass
        held = stack.enter_context(_bound(family, kind, address, _HELD_TOGETHER))
    except OSError as exc:
        msg = f"cannot listen on {host}:{port} ({exc.strerror}); is another process there?"
        raise InvalidSettings(msg) from exc
    return int(held.getsockname()[1])


def _bound(family: int, kind: int, address: tuple[object, ...], option: int) -> socket.socket:
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
