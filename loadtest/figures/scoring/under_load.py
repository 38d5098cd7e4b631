"""Unary `Score` against the echo: at the maximum, alone, at half of the maximum, and at twice that.

The maximum is that of 128 calls in flight; where a rate follows from it, it is found first, and for
the overload again in each round. Then calls come at independent random times, whatever became of
those before; latency counts from when a call was due. Server and generator have a core each; on two
cores broker and store share the generator's. The echo is a server of grpc.aio as it comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Final

from loadtest.bench.figure import MeasurementFailed, Plan, Sample, Sides, experiment, ratio, taken
from loadtest.figures.scoring.doors import IN_FLIGHT, NEEDS, Door, running_doors
from loadtest.figures.table import figure
from loadtest.generator.calls import Outcome

CALLS: Final = 6_000
CALLS_ALONE: Final = 400
PEAK_CALLS: Final = 4_000
SECONDS: Final = 10.0
# What a payment's caller waits at most; the service's own default is longer.
DEADLINE_MS: Final = 500
_HALF_LOAD_DEADLINE_MS: Final = 1_000
_LEAST_SECONDS: Final = 0.5
# With more calls lost at half load the service does not do the work that is timed.
_MOST_LOST: Final = 0.01


@experiment(
    figure("unary_vs_echo", ratio("ours", "echo", "calls_per_s")),
    figure("unary_cpu_vs_echo", ratio("ours", "echo")),
    figure("one_in_flight_vs_echo", ratio("ours", "echo", "alone_p50_ms")),
    needs=NEEDS,
)
def unary_vs_echo(plan: Plan) -> Iterator[Sides]:
    """The same calls at both doors."""
    with running_doors(plan) as (ours, echo, _):
        yield {
            "ours": partial(_at_most_and_alone, ours, plan),
            "echo": partial(_at_most_and_alone, echo, plan),
        }


def _at_most_and_alone(door: Door, plan: Plan) -> Sample:
    many = door.closed(plan.rows(CALLS, IN_FLIGHT), IN_FLIGHT)
    alone = door.closed(plan.rows(CALLS_ALONE), 1)
    told = ("calls_per_s", "cpu_us", "p50_ms", "p99_ms", "generator_share")
    return {name: many[name] for name in told} | {
        f"alone_{name}": alone[name] for name in ("p50_ms", "p99_ms")
    }


class _Loads:
    """The runs of one experiment over one pair of doors."""

    def __init__(self, ours: Door, plan: Plan) -> None:
        self._ours = ours
        self._calls = plan.rows(PEAK_CALLS, IN_FLIGHT)
        self._seconds = max(_LEAST_SECONDS, SECONDS * min(plan.scale, 1.0))
        self._seeds = count(1)
        self._peak_per_s = 0.0
        self.peak()

    def peak(self) -> Sample:
        """Find the maximum of ours."""
        found = self._ours.closed(self._calls, IN_FLIGHT)
        self._peak_per_s = found["decided_per_s"]
        return {"per_s": self._peak_per_s, "cpu_us": found["cpu_us"]}

    def twice(self) -> Sample:
        """Load ours with twice its maximum."""
        found = self._ours.open(2 * self._peak_per_s, self._seconds, DEADLINE_MS, next(self._seeds))
        return {**found, "goodput": 2 * found[Outcome.DECIDED] / found["calls"]}

    def half(self, door: Door) -> Sample:
        """Load a door with half of our maximum."""
        rate_per_s = self._peak_per_s / 2
        found = door.open(rate_per_s, self._seconds, _HALF_LOAD_DEADLINE_MS, next(self._seeds))
        if found[Outcome.DECIDED] < (1 - _MOST_LOST) * found["calls"]:
            raise MeasurementFailed(f"at half load calls are lost: {found}")
        return {**found, "rate_per_s": rate_per_s}


@experiment(figure("p99_half_load_vs_echo_p99", ratio("ours", "echo", "p99_ms")), needs=NEEDS)
def half_load(plan: Plan) -> Iterator[Sides]:
    """Tail latency at half of the maximum load."""
    with running_doors(plan) as (ours, echo, _):
        loads = _Loads(ours, plan)
        yield {"ours": partial(loads.half, ours), "echo": partial(loads.half, echo)}


@experiment(
    figure("overload_goodput", taken("twice", "goodput")),
    # Where nobody is refused, callers learn it at their deadline.
    figure("overload_refuse_ms", lambda m: m["twice"]["refused_p50_ms"] or DEADLINE_MS),
    needs=NEEDS,
)
def overload(plan: Plan) -> Iterator[Sides]:
    """What is left of the service when twice as much comes as it can do."""
    with running_doors(plan) as (ours, _, _):
        loads = _Loads(ours, plan)
        yield {"peak": loads.peak, "twice": loads.twice}
