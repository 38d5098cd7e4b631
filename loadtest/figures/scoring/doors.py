"""Two doors under the same load: scoring with all that it does, and the echo.

Ours has a store with cards that have a past, a broker, records, outbox and publishing. Both are
started once, on the same core; one is loaded at a time, from another core, where broker and store
are too if there are but two. Calls are fresh: nothing is ever answered as a repeat.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from fraudstream.broker.topic_info import Log
from fraudstream.v1.decision_pb2 import Decision
from harness.line import Line
from harness.processes import free_port
from harness.service_process import ServiceProcess
from harness.settings import kafka_settings_in, redis_settings_in
from loadtest.bench.cores import Cores, bound_to, lacking_for_cores
from loadtest.bench.cpu import lacking_for_cpu, session_cpu_us
from loadtest.bench.figure import MeasurementFailed, Plan, Sample
from loadtest.figures.features.population import Population, fill_store, make_population
from loadtest.figures.line.drain import dead_among
from loadtest.figures.line.servers import (
    Servers,
    any_broker,
    line_of,
    running,
    running_broker,
    side_servers,
    worker,
)
from loadtest.generator.calls import Call, Outcome, Summary, due_times_ns, summarise
from loadtest.generator.generator import Generator, Target

METHOD: Final = "/fraudstream.v1.Scoring/Score"
IN_FLIGHT: Final = 128
SCORING: Final = (("services.scoring", ()),)
_WARM_UP_CALLS: Final = 2_000
Load = Callable[[Generator], Coroutine[Any, Any, list[Call]]]
# Makes so many serialised requests that no server has seen.
Requests = Callable[[int], list[bytes]]

NEEDS: Final = (lacking_for_cpu, lacking_for_cores)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of one run; CPU is the server's for each call, the share that of a core."""

    summary: Summary
    calls: int
    cpu_us: float
    generator_share: float

    @property
    def decided_share(self) -> float:
        """Return the share of calls that the model decided in time."""
        return self.summary.counts[Outcome.DECIDED] / self.calls

    @property
    def calls_per_s(self) -> float:
        """Return how many calls were answered a second, whatever the answer."""
        return self.calls / self.summary.wall_s

    def sample(self) -> Sample:
        """Return it by name."""
        told = {**self.summary.told(), "cpu_us": self.cpu_us}
        return {**told, "generator_share": self.generator_share}


class Door:
    """One server, in a process of its own, and what loads it."""

    def __init__(self, process: ServiceProcess, port: int, requests: Requests) -> None:
        self.process = process
        self.port = port
        self._requests = requests

    def closed(self, count: int, in_flight: int) -> Loaded:
        """Send calls with so many in flight; `MeasurementFailed` if the model missed one."""
        messages = self._requests(count)
        loaded = self._run(None, lambda g: g.run_closed(messages, in_flight), float("inf"))
        if loaded.summary.counts[Outcome.DECIDED] != count:
            msg = f"{count} calls: expected a decision of the model for each, found"
            raise MeasurementFailed(f"{msg} {dict(loaded.summary.counts)}")
        return loaded

    def open(self, rate_per_s: float, seconds: float, deadline_ms: int, seed: int) -> Loaded:
        """Send calls when they are due, at independent random times, whatever becomes of them."""
        due_ns = due_times_ns(rate_per_s, seconds, seed)
        messages = self._requests(len(due_ns))
        return self._run(
            deadline_ms, lambda g: g.run_open(messages, due_ns, deadline_ms), deadline_ms
        )

    def decide_one(self) -> Decision:
        """Return the model's answer to one call."""
        target = Target("127.0.0.1", self.port, METHOD, connections=1)
        messages = self._requests(1)
        with asyncio.Runner() as runner:
            (call,) = runner.run(_loaded(target, lambda g: g.run_closed(messages, 1)))
        if call.outcome(float("inf")) is not Outcome.DECIDED:
            raise MeasurementFailed(f"a call was not decided by the model: status {call.status}")
        return Decision.FromString(call.answer)

    def _run(self, timeout_ms: int | None, load: Load, deadline_ms: float) -> Loaded:
        spent_us, used_s, wall_s = self._spent_us(), time.process_time(), time.monotonic()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            calls = runner.run(_loaded(Target("127.0.0.1", self.port, METHOD, timeout_ms), load))
        wall_s = time.monotonic() - wall_s
        used_s, spent_us = time.process_time() - used_s, self._spent_us() - spent_us
        if dead_among([self.process]):
            raise MeasurementFailed(dead_among([self.process]))
        return Loaded(
            summarise(calls, deadline_ms), len(calls), spent_us / len(calls), used_s / wall_s
        )

    def _spent_us(self) -> int:
        return session_cpu_us({self.process.pid})


async def _loaded(target: Target, load: Load) -> list[Call]:
    async with Generator(target) as generator:
        return await load(generator)


@dataclass(frozen=True, slots=True)
class Stored:
    """Servers whose store holds a population and whose log's shards are open; a line to start."""

    servers: Servers
    population: Population
    log: Log
    line: Line


@dataclass(frozen=True, slots=True)
class Doors:
    """Both doors, running and warm, and what stands behind ours."""

    ours: Door
    echo: Door
    stored: Stored


@contextmanager
def running_store(plan: Plan) -> Iterator[Stored]:
    """Start broker and store, make the topics, fill the store, and end both on leaving."""
    population = make_population(plan)
    with (
        running_broker(any_broker(plan)) as broker,
        side_servers(broker, "doors", plan.folder) as servers,
    ):
        line = line_of(servers.environment, plan.folder / "ours", SCORING)
        at = redis_settings_in(servers.environment), kafka_settings_in(servers.environment)
        log = asyncio.run(fill_store(*at, population))
        yield Stored(servers, population, log, line)


@contextmanager
def running_doors(plan: Plan) -> Iterator[Doors]:
    """Start everything, warm it up, and end it on leaving; this process is the generator."""
    cores = Cores.of_this_process()
    with ExitStack() as stack:
        stack.enter_context(bound_to(cores.rest))
        stored = stack.enter_context(running_store(plan))
        stack.enter_context(bound_to(cores.server))
        line = stored.line
        stack.enter_context(running(line.services))
        fresh = stored.population.fresh(seed=1)
        ours = Door(line.services[0], line.ports.scoring, fresh.requests)
        with bound_to(cores.generator):
            answer = ours.decide_one().SerializeToString()
        echo = stack.enter_context(running_echo(plan.folder, answer, fresh.requests))
        stack.enter_context(bound_to(cores.generator))
        for door in (ours, echo):
            door.closed(plan.rows(_WARM_UP_CALLS), IN_FLIGHT)
        yield Doors(ours, echo, stored)


@contextmanager
def running_echo(folder: Path, answer: bytes, requests: Requests) -> Iterator[Door]:
    """Start an echo, which answers with decisions of the same size as one of ours, and end it."""
    folder.mkdir(exist_ok=True)
    path, port = folder / "answer", free_port()
    path.write_bytes(answer)
    process = worker("echo", (str(port), str(path)), {}, folder)
    with running([process]):
        yield Door(process, port, requests)
