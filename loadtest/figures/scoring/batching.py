"""Ways to batch behind the real gRPC front end: the one that scoring has, and three others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

from fraudstream.broker.topic_info import find_log
from fraudstream.topics import ENTITIES
from harness.processes import free_port
from harness.settings import kafka_settings_in
from loadtest.bench.cores import Cores, bound_to
from loadtest.bench.figure import Plan, Round, Sample, Side, Sides, experiment
from loadtest.figures.line.servers import running, worker
from loadtest.figures.scoring.doors import IN_FLIGHT, NEEDS, Door, running_store
from loadtest.figures.table import figure
from loadtest.workers.batching import Way

CALLS: Final = 4_000
CALLS_ALONE: Final = 300


def _vs_others(measured: Round) -> float:
    others = [of["calls_per_s"] for way, of in measured.items() if way != Way.CHOSEN]
    return measured[Way.CHOSEN]["calls_per_s"] / max(others)


@experiment(
    figure("batching_vs_others", _vs_others),
    needs=NEEDS,
)
def batching_vs_others(plan: Plan) -> Iterator[Sides]:
    """Start a server for each way on one store, and end all on leaving."""
    cores = Cores.of_this_process()
    with ExitStack() as stack:
        stack.enter_context(bound_to(cores.rest))
        stored = stack.enter_context(running_store(plan))
        fresh = stored.population.fresh(seed=3)
        environment = stored.servers.environment
        entities = find_log(kafka_settings_in(environment), ENTITIES).partitions
        sides: dict[str, Side] = {}
        for way in Way:
            port = free_port()
            told = (way.value, str(port), str(stored.log.partitions), str(entities))
            process = worker("batching", told, environment, plan.folder / way.value)
            with bound_to(cores.server):
                stack.enter_context(running([process]))
            sides[way.value] = partial(_measure, Door(process, port, fresh.requests), plan)
        stack.enter_context(bound_to(cores.generator))
        for side in sides.values():
            side()
        yield sides


def _measure(door: Door, plan: Plan) -> Sample:
    many = door.closed(plan.rows(CALLS, IN_FLIGHT), IN_FLIGHT)
    alone = door.closed(plan.rows(CALLS_ALONE), 1)
    return {
        "calls_per_s": many["calls_per_s"],
        "cpu_us": many["cpu_us"],
        "alone_p50_ms": alone["p50_ms"],
    }
