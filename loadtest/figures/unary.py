"""Unary `Score` against the echo: throughput, CPU of the server, and one call alone.

The echo is a server of grpc.aio as it comes. Beside it stands one whose threads wait as ours do,
which says how much of a gain is gRPC's and how much is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from loadtest.bench.cores import Cores, bound_to
from loadtest.bench.figure import Figure, Plan, Round, Sample, Side
from loadtest.bench.spent import beside
from loadtest.figures.doors import IN_FLIGHT, Door, OnDoors, running_doors, running_echo

CALLS: Final = 6_000
CALLS_ALONE: Final = 400


class UnaryVsEcho(OnDoors):
    """The same calls at both doors."""

    figures = (
        Figure(
            "unary_vs_echo",
            "Unary Score, 128 in flight, decided a second: ours / echo",
            "ratio",
            must=0.5,
            aim=0.65,
        ),
        Figure(
            "unary_cpu_vs_echo",
            "Unary Score, 128 in flight, CPU of the server a call: ours / echo",
            "ratio",
            must=3.0,
            aim=2.0,
            is_cost=True,
        ),
        Figure(
            "one_in_flight_vs_echo",
            "Unary Score, one call in flight, median latency: ours / echo",
            "ratio",
            must=5.0,
            aim=3.0,
            is_cost=True,
        ),
    )

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Start both doors with all that they need, and end it on leaving."""
        cores = Cores.of_this_process()
        with ExitStack() as stack:
            doors = stack.enter_context(running_doors(self._kafka, self._machine, plan))
            answer = doors.ours.decide_one().SerializeToString()
            fresh = doors.stored.population.fresh(seed=3)
            with bound_to(cores.server):
                patient = stack.enter_context(
                    running_echo(plan.folder / "patient", answer, fresh.requests, "--patient")
                )
            yield {
                "ours": partial(_measure, doors.ours, plan),
                "echo": partial(_measure, doors.echo, plan),
                "patient echo": partial(_measure, patient, plan),
            }

    def values(self, measured: Round) -> dict[str, float]:
        """Return the ratios of one round, and both sides beside them."""
        ours, echo = measured["ours"], measured["echo"]
        return {
            "unary_vs_echo": ours["calls_per_s"] / echo["calls_per_s"],
            "unary_cpu_vs_echo": ours["cpu_us"] / echo["cpu_us"],
            "one_in_flight_vs_echo": ours["alone_p50_ms"] / echo["alone_p50_ms"],
            "unary_vs_patient_echo": ours["calls_per_s"] / measured["patient echo"]["calls_per_s"],
            **beside(dict(measured)),
        }


def _measure(door: Door, plan: Plan) -> Sample:
    many = door.closed(plan.rows(CALLS, IN_FLIGHT), IN_FLIGHT)
    alone = door.closed(plan.rows(CALLS_ALONE), 1).summary.told()
    told = many.summary.told()
    return {
        "calls_per_s": many.calls_per_s,
        "cpu_us": many.cpu_us,
        "p50_ms": told["p50_ms"],
        "p99_ms": told["p99_ms"],
        "alone_p50_ms": alone["p50_ms"],
        "alone_p99_ms": alone["p99_ms"],
        "generator_share": many.generator_share,
    }
