"""What a figure is, and what measures it.

An experiment sets its sides up once, warm, and runs them in turns: round by round, so that a busy
moment of the machine meets every side. One round gives one value of each of its figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fraudstream.errors import FraudStreamError, Outcome, Retry

# What one run of one side gave, by name.
Sample = Mapping[str, float]
# Runs one side once, on rows that it has not seen.
Side = Callable[[], Sample]
# One run of every side, by the side's name.
Round = Mapping[str, Sample]


class MeasurementFailed(FraudStreamError):
    """A run did not do the work that it was to be measured on. The message says what lacks."""

    outcome = Outcome("INTERNAL", Retry.NO, "-")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, and how far it should go.

    Attributes:
        name: As it is asked for and written; never changes.
        what: One line for people.
        unit: Of its value.
        must: What it has to reach; None where nobody asked.
        aim: What is wanted.
        is_cost: Less is better.
    """

    name: str
    what: str
    unit: str
    must: float | None = None
    aim: float | None = None
    is_cost: bool = False

    def reaches(self, value: float, bound: float | None) -> bool:
        """Return whether a value is as good as a bound; True for no bound.

        >>> Figure("latency", "", "ms", is_cost=True).reaches(3.0, 5.0)
        True
        """
        if bound is None:
            return True
        return value <= bound if self.is_cost else value >= bound


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        runs: Rounds.
        scale: Share of the full number of rows; 1 for figures that count.
        folder: For logs, keys and the servers' files.
    """

    runs: int
    scale: float
    folder: Path

    def rows(self, full: int, at_least: int = 50) -> int:
        """Return how many rows to use where a full measurement uses `full`.

        >>> Plan(5, 0.01, Path()).rows(20_000)
        200
        """
        return max(at_least, round(full * self.scale))


class Experiment(Protocol):
    """Measures one or more figures."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Return what it measures."""
        ...

    def lacking(self) -> str:
        """Return why this machine cannot run it, empty where it can."""
        ...

    def open(self, plan: Plan) -> AbstractContextManager[Mapping[str, Side]]:
        """Set the sides up, warm; end all that was started on leaving.

        Raises:
            MeasurementFailed: A side does not do its work.
        """
        ...

    def values(self, measured: Round) -> dict[str, float]:
        """Return the value of each figure in one round, and of what is reported apart."""
        ...
