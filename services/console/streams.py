"""The two threads beside the web server: they outlive a broker or database that goes and comes."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final

from django.db import DatabaseError, connections
from kafka.errors import KafkaError

from fraudstream.errors import BrokerUnavailable

_LOG: Final = logging.getLogger(__name__)
_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 15.0
_JOIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Streams:
    """Runs named loops in threads until stopped.

    Attributes:
        loops: What to run: each gets `stop`, and is run again with a growing delay when the broker
            or the database is out of reach.
        wake: Set on stopping, so that a waiting loop looks at `stop`.
    """

    loops: dict[str, Callable[[Event], None]]
    wake: Event
    stop_asked: Event = field(default_factory=Event)
    threads: list[Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start one thread for each loop."""
        for name, loop in self.loops.items():
            thread = Thread(target=self._guard, args=(name, loop), name=name, daemon=True)
            self.threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Ask all loops to end, and wait for them."""
        self.stop_asked.set()
        self.wake.set()
        for thread in self.threads:
            thread.join(_JOIN_S)

    def silent(self) -> list[str]:
        """Return the names of loops that no longer run."""
        return [thread.name for thread in self.threads if not thread.is_alive()]

    def _guard(self, name: str, loop: Callable[[Event], None]) -> None:
        """Run a loop; should it fail in a way it does not know, end this worker with it.

        Gunicorn then starts another worker: start-up and recovery are one path.
        """
        try:
            self._repeat(name, loop)
        finally:
            connections.close_all()
            if not self.stop_asked.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    def _repeat(self, name: str, loop: Callable[[Event], None]) -> None:
        delay_s = _FIRST_DELAY_S
        while not self.stop_asked.is_set():
            started_s = time.monotonic()
            try:
                loop(self.stop_asked)
            except (BrokerUnavailable, KafkaError, DatabaseError) as exc:
                if time.monotonic() - started_s > _LONGEST_DELAY_S:
                    delay_s = _FIRST_DELAY_S
                _LOG.warning("%s: %s; again in %.1f s", name, type(exc).__name__, delay_s)
                self.stop_asked.wait(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
