"""Calls that come when they come: at half of what the service can do, and at twice that.

Its maximum is found first, and again in each round, with 128 calls in flight. Then calls come at
independent random times, whatever became of those before; latency counts from when a call was due.
Server and generator have a core each; on two cores broker and store share the generator's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Final

from loadtest.bench.figure import Figure, MeasurementFailed, Plan, Round, Sample, Side
from loadtest.bench.spent import beside
from loadtest.figures.doors import IN_FLIGHT, Door, Doors, OnDoors, running_doors

SECONDS: Final = 10.0
PEAK_CALLS: Final = 4_000
# What a payment's caller waits at most; the service's own default is longer.
DEADLINE_MS: Final = 500
_HALF_LOAD_DEADLINE_MS: Final = 1_000
_LEAST_SECONDS: Final = 0.5
# With more calls lost at half load the service does not do the work that is timed.
_MOST_LOST: Final = 0.01


class _Loads:
    """The runs of one experiment over one pair of doors."""

    def __init__(self, doors: Doors, plan: Plan) -> None:
        self._doors = doors
        self._calls = plan.rows(PEAK_CALLS, IN_FLIGHT)
        self._seconds = max(_LEAST_SECONDS, SECONDS * min(plan.scale, 1.0))
        self._seeds = count(1)
        self._peak_per_s = 0.0

    def peak(self) -> Sample:
        """Find the maximum anew."""
        loaded = self._doors.ours.closed(self._calls, IN_FLIGHT)
        self._peak_per_s = loaded.summary.decided_per_s
        return {"per_s": self._peak_per_s, "cpu_us": loaded.cpu_us}

    def ours(self) -> Sample:
        """Load ours by half."""
        return self._at_half(self._doors.ours)

    def echo(self) -> Sample:
        """Load the echo at the same rate."""
        return self._at_half(self._doors.echo)

    def twice(self) -> Sample:
        """Load ours with twice its maximum."""
        rate_per_s = 2 * self._peak_per_s
        loaded = self._doors.ours.open(rate_per_s, self._seconds, DEADLINE_MS, next(self._seeds))
        return {
            **loaded.sample(),
            "goodput": loaded.decided_share * rate_per_s / self._peak_per_s,
        }

    def _at_half(self, door: Door) -> Sample:
        rate_per_s = self._peak_per_s / 2
        loaded = door.open(rate_per_s, self._seconds, _HALF_LOAD_DEADLINE_MS, next(self._seeds))
        if loaded.decided_share < 1 - _MOST_LOST:
            counts = dict(loaded.summary.counts)
            raise MeasurementFailed(f"at half load {loaded.calls} calls became {counts}")
        return {**loaded.sample(), "rate_per_s": rate_per_s}


class HalfLoad(OnDoors):
    """Tail latency at half of the maximum load."""

    figures = (
        Figure(
            "p99_half_load_vs_echo_p99",
            "Unary Score, 50 % of the maximum load, 99th percentile: ours / echo at that rate",
            "ratio",
            must=3.0,
            aim=1.5,
            is_cost=True,
        ),
    )

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Start both doors, find the maximum, and end all on leaving."""
        with running_doors(self._kafka, self._machine, plan) as doors:
            loads = _Loads(doors, plan)
            loads.peak()
            yield {"ours": loads.ours, "echo": loads.echo}

    def values(self, measured: Round) -> dict[str, float]:
        """Return the ratio of one round, and both sides beside it."""
        ratio = measured["ours"]["p99_ms"] / measured["echo"]["p99_ms"]
        return {"p99_half_load_vs_echo_p99": ratio, **beside(dict(measured))}


class Overload(OnDoors):
    """What is left of the service when twice as much comes as it can do."""

    figures = (
        Figure(
            "overload_goodput",
            f"Decisions of the model within {DEADLINE_MS} ms at 2 x the maximum load / the maximum",
            "ratio",
            must=0.9,
            aim=0.95,
        ),
        Figure(
            "overload_refuse_ms",
            "Time until a call is refused at 2 x the maximum load, median",
            "ms",
            must=20.0,
            aim=5.0,
            is_cost=True,
        ),
    )

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Start ours, find the maximum, and end all on leaving."""
        with running_doors(self._kafka, self._machine, plan) as doors:
            loads = _Loads(doors, plan)
            loads.peak()
            yield {"peak": loads.peak, "twice": loads.twice}

    def values(self, measured: Round) -> dict[str, float]:
        """Return both figures of one round, and what became of all calls."""
        twice = measured["twice"]
        return {
            "overload_goodput": twice["goodput"],
            # Where nobody is refused, callers learn it at their deadline.
            "overload_refuse_ms": twice["refused_p50_ms"] or DEADLINE_MS,
            **beside(dict(measured)),
        }
