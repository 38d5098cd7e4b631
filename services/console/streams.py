"""The two threads beside the web server: they outlive a broker or database that goes and comes."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final

from django.db import DatabaseError, connections

from fraudstream.errors import BrokerUnavailable
from services.console.loop_health import LoopHealth

_LOG: Final = logging.getLogger(__name__)
_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 15.0
_JOIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Streams:
    """Runs named loops in threads until stopped.

    Attributes:
        loops: What to run, with the health that it tells: each gets `stop`, and is run again with a
            growing delay when the broker or the database is out of reach.
        wake: Set on stopping, so that a waiting loop looks at `stop`.
    """

    loops: Sequence[tuple[LoopHealth, Callable[[Event], None]]]
    wake: Event
    stop_asked: Event = field(default_factory=Event)
    threads: list[Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start one thread for each loop."""
        for health, loop in self.loops:
            thread = Thread(target=self._guard, args=(health, loop), name=health.name, daemon=True)
            self.threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Ask all loops to end, and wait for them."""
        self.stop_asked.set()
        self.wake.set()
        for thread in self.threads:
            thread.join(_JOIN_S)

    def faults(self) -> list[str]:
        """Return the loops that no longer run, and those whose work the database refuses."""
        silent = [thread.name for thread in self.threads if not thread.is_alive()]
        refused = [f"{h.name}: {h.database}" for h, _ in self.loops if h.database]
        return [*silent, *refused]

    def waiting(self) -> list[str]:
        """Return the loops that wait for the broker, and what it said."""
        return [f"{h.name}: {h.broker}" for h, _ in self.loops if h.broker]

    def _guard(self, health: LoopHealth, loop: Callable[[Event], None]) -> None:
        """Run a loop; should it fail in a way it does not know, end this worker with it.

        Gunicorn then starts another worker: start-up and recovery are one path.
        """
        try:
            self._repeat(health, loop)
        finally:
            connections.close_all()
            if not self.stop_asked.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    def _repeat(self, health: LoopHealth, loop: Callable[[Event], None]) -> None:
        delay_s = _FIRST_DELAY_S
        while not self.stop_asked.is_set():
            started_s = time.monotonic()
            try:
                loop(self.stop_asked)
            except (BrokerUnavailable, DatabaseError) as exc:
                if time.monotonic() - started_s > _LONGEST_DELAY_S:
                    delay_s = _FIRST_DELAY_S
                cause = health.fail(exc)
                _LOG.warning("%s: %s; again in %.1f s", health.name, cause, delay_s)
                self.stop_asked.wait(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
