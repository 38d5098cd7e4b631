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

from loadtest.bench.figure import (
    MeasurementFailed,
    Plan,
    Sample,
    Sides,
    experiment,
    ratio,
    taken,
)
from loadtest.figures.scoring.doors import IN_FLIGHT, NEEDS, Door, Doors, running_doors
from loadtest.figures.table import figure

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
    with running_doors(plan) as doors:
        yield {
            "ours": partial(_at_most_and_alone, doors.ours, plan),
            "echo": partial(_at_most_and_alone, doors.echo, plan),
        }


def _at_most_and_alone(door: Door, plan: Plan) -> Sample:
    many = door.closed(plan.rows(CALLS, IN_FLIGHT), IN_FLIGHT)
    alone, told = door.closed(plan.rows(CALLS_ALONE), 1).summary.told(), many.summary.told()
    return {
        "calls_per_s": many.calls_per_s,
        "cpu_us": many.cpu_us,
        **{name: told[name] for name in ("p50_ms", "p99_ms")},
        **{f"alone_{name}": alone[name] for name in ("p50_ms", "p99_ms")},
        "generator_share": many.generator_share,
    }


class _Loads:
    """The runs of one experiment over one pair of doors."""

    def __init__(self, doors: Doors, plan: Plan) -> None:
        self._ours = doors.ours
        self._calls = plan.rows(PEAK_CALLS, IN_FLIGHT)
        self._seconds = max(_LEAST_SECONDS, SECONDS * min(plan.scale, 1.0))
        self._seeds = count(1)
        self._peak_per_s = 0.0
        self.peak()

    def peak(self) -> Sample:
        """Find the maximum of ours."""
        loaded = self._ours.closed(self._calls, IN_FLIGHT)
        self._peak_per_s = loaded.summary.decided_per_s
        return {"per_s": self._peak_per_s, "cpu_us": loaded.cpu_us}

    def twice(self) -> Sample:
        """Load ours with twice its maximum."""
        rate_per_s = 2 * self._peak_per_s
        loaded = self._ours.open(rate_per_s, self._seconds, DEADLINE_MS, next(self._seeds))
        goodput = loaded.decided_share * rate_per_s / self._peak_per_s
        return {**loaded.sample(), "goodput": goodput}

    def half(self, door: Door) -> Sample:
        """Load a door with half of our maximum."""
        rate_per_s = self._peak_per_s / 2
        loaded = door.open(rate_per_s, self._seconds, _HALF_LOAD_DEADLINE_MS, next(self._seeds))
        if loaded.decided_share < 1 - _MOST_LOST:
            counts = dict(loaded.summary.counts)
            raise MeasurementFailed(f"at half load {loaded.calls} calls became {counts}")
        return {**loaded.sample(), "rate_per_s": rate_per_s}


@experiment(
    figure("p99_half_load_vs_echo_p99", ratio("ours", "echo", "p99_ms")),
    needs=NEEDS,
)
def half_load(plan: Plan) -> Iterator[Sides]:
    """Tail latency at half of the maximum load."""
    with running_doors(plan) as doors:
        loads = _Loads(doors, plan)
        yield {"ours": partial(loads.half, doors.ours), "echo": partial(loads.half, doors.echo)}


@experiment(
    figure("overload_goodput", taken("twice", "goodput")),
    figure(
        "overload_refuse_ms", lambda measured: measured["twice"]["refused_p50_ms"] or DEADLINE_MS
    ),
    needs=NEEDS,
)
def overload(plan: Plan) -> Iterator[Sides]:
    """What is left of the service when twice as much comes as it can do."""
    with running_doors(plan) as doors:
        loads = _Loads(doors, plan)
        yield {"peak": loads.peak, "twice": loads.twice}
