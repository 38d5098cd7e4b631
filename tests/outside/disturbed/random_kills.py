"""Kill -9 of any process of the line at random moments, drawn from one seed."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from typing import Final

from harness.service_process import ServiceProcess

_LOG: Final = logging.getLogger(__name__)


class RandomKiller:
    """Ends one service after another by SIGKILL, at random times, and starts it again.

    A service that ended by itself is started again as well, as a supervisor would, and counted.

    Args:
        services: Processes of the line.
        kills: How many there shall be.
        every_s: Mean time between two of them, exponentially distributed.
        rng: Draws times and victims.
    """

    def __init__(
        self, services: list[ServiceProcess], kills: int, every_s: float, rng: random.Random
    ) -> None:
        self._services = services
        self._left = kills
        self._every_s = every_s
        self._rng = rng
        self._next_at = time.monotonic() + rng.expovariate(1.0 / every_s)
        self.killed: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    @property
    def is_done(self) -> bool:
        """Whether every kill has happened."""
        return self._left == 0

    def tick(self) -> None:
        """Start again what ended, and kill where it is time."""
        for service in self._services:
            if not service.is_running:
                self.ended[f"{service.name} exit {service.exit_code}"] += 1
                service.launch()
        if self._left and time.monotonic() >= self._next_at:
            self._kill()

    def _kill(self) -> None:
        victim = self._rng.choice(self._services)
        victim.kill()
        self.killed[victim.name] += 1
        victim.launch()
        self._left -= 1
        self._next_at = time.monotonic() + self._rng.expovariate(1.0 / self._every_s)
