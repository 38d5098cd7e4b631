"""What a figure is, and what measures it.

An experiment sets its sides up once, warm, and runs them in turns: round by round, so that a busy
moment of the machine meets every side. One round gives one value of each of its figures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fraudstream.errors import FraudStreamError, Outcome, Retry
from fraudstream.settings import KafkaSettings
from harness.settings import MachineSettings

# What one run of one side gave, by name.
Sample = Mapping[str, float]
# Runs one side once, on rows that it has not seen.
Side = Callable[[], Sample]
Sides = Mapping[str, Side]
# One run of every side, by the side's name.
Round = Mapping[str, Sample]
Value = Callable[[Round], float]
# Returns why a machine cannot run an experiment, empty where it can.
Need = Callable[[MachineSettings], str]


class MeasurementFailed(FraudStreamError):
    """A run did not do the work that it was to be measured on. The message says what lacks."""

    outcome = Outcome("INTERNAL", Retry.NO, os.EX_SOFTWARE)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: a row of the table, and what takes its value from a round.

    It has to reach `must`, if anybody asked, and should reach `aim`. Of a cost less is better.
    """

    name: str
    what: str
    unit: str
    value: Value
    must: float | None = None
    aim: float | None = None
    is_cost: bool = False

    def reaches(self, value: float, bound: float | None) -> bool:
        """Return whether a value is as good as a bound; True for no bound.

        >>> Figure("latency", "", "ms", taken("ours", "ms"), is_cost=True).reaches(3.0, 5.0)
        True
        """
        if bound is None:
            return True
        return value <= bound if self.is_cost else value >= bound


def taken(side: str, what: str) -> Value:
    """Return what takes one number of one side.

    >>> taken("ours", "ms")({"ours": {"ms": 3.0}})
    3.0
    """
    return lambda measured: measured[side][what]


def ratio(side: str, other: str, what: str = "cpu_us") -> Value:
    """Return what divides one side's number by another's.

    >>> ratio("theirs", "ours")({"ours": {"cpu_us": 2.0}, "theirs": {"cpu_us": 6.0}})
    3.0
    """
    return lambda measured: measured[side][what] / measured[other][what]


def beside(measured: Round) -> dict[str, float]:
    """Return what each side measured, named by side, for what is reported beside a figure.

    >>> beside({"ours": {"cpu_us": 2.0}})
    {'ours cpu_us': 2.0}
    """
    return {f"{side} {name}": value for side, of in measured.items() for name, value in of.items()}


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rounds, which share of the rows, and the folder for logs and server files."""

    runs: int
    scale: float
    folder: Path
    kafka: KafkaSettings = field(default_factory=KafkaSettings.read)
    machine: MachineSettings = field(default_factory=MachineSettings)

    def rows(self, full: int, at_least: int = 50) -> int:
        """Return how many rows to use where a full measurement uses `full`.

        >>> Plan(5, 0.01, Path()).rows(20_000)
        200
        """
        return max(at_least, round(full * self.scale))


@dataclass(frozen=True, slots=True)
class Experiment:
    """Measures figures by sides that it sets up, warm, and ends on leaving.

    It raises `MeasurementFailed` where a side does not do its work. `apart` is what of a round is
    reported beside the figures.
    """

    figures: tuple[Figure, ...]
    sides: Callable[[Plan], Iterator[Sides]]
    needs: tuple[Need, ...] = ()
    apart: Callable[[Round], Mapping[str, float]] = beside

    def lacking(self, machine: MachineSettings) -> str:
        """Return why a machine cannot run it, empty where it can."""
        return next(filter(None, (need(machine) for need in self.needs)), "")

    def open(self, plan: Plan) -> AbstractContextManager[Sides]:
        """Return the sides as a context."""
        return contextmanager(self.sides)(plan)

    def values(self, measured: Round) -> dict[str, float]:
        """Return the value of each figure in one round, and of what is reported apart."""
        values = {figure.name: figure.value(measured) for figure in self.figures}
        return {**values, **self.apart(measured)}


def experiment(
    *figures: Figure, needs: tuple[Need, ...] = (), apart: Callable[[Round], Sample] = beside
) -> Callable[[Callable[[Plan], Iterator[Sides]]], Experiment]:
    """Make an experiment of a function that yields its sides once."""
    return lambda sides: Experiment(figures, sides, needs, apart)
