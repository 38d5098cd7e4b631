"""Run the sides of an experiment in turns and gather the values of its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.bench.figure import Experiment, Figure, MeasurementFailed, Plan, Round
from loadtest.bench.repeats import interval_of, median_of

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure after all rounds.

    Attributes:
        figure: Which.
        values: One a round.
        skipped: Why it was not measured; empty where it was.
        apart: Medians of what its experiment reports beside the figures.
    """

    figure: Figure
    values: Sequence[float]
    skipped: str
    apart: dict[str, float]

    @property
    def value(self) -> float | None:
        """Median, None where it was not measured."""
        return median_of(self.values) if self.values else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """Interval of the repeats, None where it was not measured."""
        return interval_of(self.values) if self.values else None

    @property
    def reaches_must(self) -> bool:
        """Whether it is as good as it has to be; True where it was not measured."""
        return self.value is None or self.figure.reaches(self.value, self.figure.must)


def measure(experiment: Experiment, plan: Plan, report: Report) -> list[Measured]:
    """Measure all figures of an experiment, or say why not."""
    lacking = experiment.lacking()
    if lacking:
        return [Measured(figure, (), lacking, {}) for figure in experiment.figures]
    rounds = run_rounds(experiment, plan, report)
    values = [experiment.values(measured) for measured in rounds]
    names = {figure.name for figure in experiment.figures}
    apart = {
        name: median_of([value[name] for value in values]) for name in values[0].keys() - names
    }
    return [
        Measured(figure, [value[figure.name] for value in values], "", dict(sorted(apart.items())))
        for figure in experiment.figures
    ]


def run_rounds(experiment: Experiment, plan: Plan, report: Report) -> list[Round]:
    """Run every side once a round; each round begins with another side.

    Raises:
        MeasurementFailed: A side did not do its work.
    """
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
