"""Run the sides of an experiment in turns and gather the values of its figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.bench.figure import Experiment, Figure, MeasurementFailed, Plan, Round

Report = Callable[[str], None]

# Order statistics that enclose the median at least this often (binomial, no assumption about how
# values are distributed). Five values give 0.94 between the smallest and the largest.
COVERAGE: Final = 0.90


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure after all rounds: a value a round, or why it was skipped.

    `apart` has the medians of what is reported beside it.
    """

    figure: Figure
    values: Sequence[float]
    skipped: str
    apart: dict[str, float]

    @property
    def value(self) -> float | None:
        """Median, None where it was not measured."""
        return statistics.median(self.values) if self.values else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """Interval of the repeats, None where it was not measured."""
        return interval_of(self.values) if self.values else None

    @property
    def reaches_must(self) -> bool:
        """Whether it is as good as it has to be; True where it was not measured."""
        return self.value is None or self.figure.reaches(self.value, self.figure.must)


def interval_of(values: Sequence[float]) -> tuple[float, float]:
    """Return the narrowest pair of order statistics that encloses the median often enough.

    With four values or fewer that is the smallest and the largest.

    >>> interval_of([5.0, 1.0, 4.0, 2.0, 3.0])
    (1.0, 5.0)
    """
    ordered = sorted(values)
    count, cut = len(ordered), 0
    while cut + 1 <= (count - 1) // 2 and _coverage(count, cut + 1) >= COVERAGE:
        cut += 1
    return ordered[cut], ordered[-1 - cut]


def _coverage(count: int, cut: int) -> float:
    """Return how often the median lies inside when `cut` values are left out at each end."""
    tail = sum(math.comb(count, outside) for outside in range(cut + 1))
    return 1.0 - 2.0 * tail / 2.0**count


def measure(experiment: Experiment, plan: Plan, report: Report) -> list[Measured]:
    """Measure all figures of an experiment, or say why not."""
    lacking = experiment.lacking(plan.machine)
    if lacking:
        return [Measured(figure, (), lacking, {}) for figure in experiment.figures]
    values = [experiment.values(measured) for measured in run_rounds(experiment, plan, report)]
    names = values[0].keys() - {figure.name for figure in experiment.figures}
    apart = {name: statistics.median(value[name] for value in values) for name in sorted(names)}
    return [
        Measured(figure, [value[figure.name] for value in values], "", apart)
        for figure in experiment.figures
    ]


def run_rounds(experiment: Experiment, plan: Plan, report: Report) -> list[Round]:
    """Run every side once a round; each round begins with another side."""
    rounds: list[Round] = []
    with experiment.open(plan) as sides:
        names = list(sides)
        for number in range(plan.runs):
            turn = number % len(names)
            measured = {}
            for name in names[turn:] + names[:turn]:
                measured[name] = sides[name]()
                said = "  ".join(f"{key} {value:,.1f}" for key, value in measured[name].items())
                report(f"round {number + 1} of {plan.runs}, {name}: {said}")
            rounds.append(measured)
    if not rounds:
        raise MeasurementFailed("expected at least one run")
    return rounds
