"""What keeps a background loop from its work, in the words of what refused it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import DatabaseError

from fraudstream.telemetry.metrics import CONSOLE_FAILURES


@dataclass(slots=True)
class LoopHealth:
    """One loop's last failure, until the loop has done its work again. Any thread may read it.

    Attributes:
        name: Of the loop.
        database: What the database said; empty where it does what is asked.
        broker: What the broker said; empty likewise.
    """

    name: str
    database: str = ""
    broker: str = ""

    def fail(self, exc: Exception) -> str:
        """Note a failure; return its cause in words.

        A database's message may hold values after its first line, so that line is all.
        """
        cause = str(exc).partition("\n")[0] or type(exc).__name__
        if isinstance(exc, DatabaseError):
            self.database = cause
            CONSOLE_FAILURES.labels(self.name, "database").inc()
        else:
            self.broker = cause
            CONSOLE_FAILURES.labels(self.name, "broker").inc()
        return cause

    def work(self) -> None:
        """Note that the loop's work was done."""
        self.database = self.broker = ""
