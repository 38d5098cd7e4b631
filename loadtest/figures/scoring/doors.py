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
from typing import Any, Final, NamedTuple

import uvloop

from fraudstream.broker.topic_info import Log
from fraudstream.v1.decision_pb2 import Decision
from harness.line import Line
from harness.processes import free_port
from harness.service_process import ServiceProcess
from harness.settings import kafka_settings_in, redis_settings_in
from loadtest.bench.cores import Cores, bound_to, lacking_for_cores
from loadtest.bench.cpu import lacking_for_cpu, session_cpu_us
from loadtest.bench.figure import MeasurementFailed, Plan
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
from loadtest.generator.calls import Call, Outcome, due_times_ns, summarise
from loadtest.generator.generator import Generator, Target

METHOD: Final = "/fraudstream.v1.Scoring/Score"
IN_FLIGHT: Final = 128
SCORING: Final = (("services.scoring", ()),)
NEEDS: Final = (lacking_for_cpu, lacking_for_cores)
_WARM_UP_CALLS: Final = 2_000

Load = Callable[[Generator], Coroutine[Any, Any, list[Call]]]
# Makes so many serialised requests that no server has seen.
Requests = Callable[[int], list[bytes]]


@dataclass(frozen=True, slots=True)
class Door:
    """One server, in a process of its own, and what loads it.

    A run gives a summary of its calls, the server's CPU of a call (`cpu_us`), and the share of a
    core that the generator used (`generator_share`).
    """

    process: ServiceProcess
    port: int
    requests: Requests

    def closed(self, count: int, in_flight: int) -> dict[str, float]:
        """Send calls with so many in flight; `MeasurementFailed` if the model missed one."""
        messages = self.requests(count)
        found = self._run(None, lambda g: g.run_closed(messages, in_flight), float("inf"))
        if found[Outcome.DECIDED] != count:
            counts = {outcome.value: found[outcome] for outcome in Outcome}
            raise MeasurementFailed(f"expected a decision of the model for each call: {counts}")
        return found

    def open(
        self, rate_per_s: float, seconds: float, deadline_ms: int, seed: int
    ) -> dict[str, float]:
        """Send calls when they are due, at independent random times, whatever becomes of them."""
        due_ns = due_times_ns(rate_per_s, seconds, seed)
        messages = self.requests(len(due_ns))
        return self._run(
            deadline_ms, lambda g: g.run_open(messages, due_ns, deadline_ms), deadline_ms
        )

    def decide_one(self) -> Decision:
        """Return the model's answer to one call."""
        messages = self.requests(1)
        (call,) = self._call(None, lambda g: g.run_closed(messages, 1), connections=1)
        if call.outcome(float("inf")) is not Outcome.DECIDED:
            raise MeasurementFailed(f"a call was not decided by the model: status {call.status}")
        return Decision.FromString(call.answer)

    def _run(self, timeout_ms: int | None, load: Load, deadline_ms: float) -> dict[str, float]:
        server = {self.process.pid}
        spent_us, used_s, began_s = session_cpu_us(server), time.process_time(), time.monotonic()
        calls = self._call(timeout_ms, load)
        wall_s = time.monotonic() - began_s
        used_s, spent_us = time.process_time() - used_s, session_cpu_us(server) - spent_us
        if dead_among([self.process]):
            raise MeasurementFailed(dead_among([self.process]))
        found = summarise(calls, deadline_ms)
        return {**found, "cpu_us": spent_us / len(calls), "generator_share": used_s / wall_s}

    def _call(self, timeout_ms: int | None, load: Load, connections: int = 8) -> list[Call]:
        async def run() -> list[Call]:
            target = Target("127.0.0.1", self.port, METHOD, timeout_ms, connections)
            async with Generator(target) as generator:
                return await load(generator)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run())


class Stored(NamedTuple):
    """Servers whose store holds a population and whose log's shards are open; a line to start."""

    servers: Servers
    population: Population
    log: Log
    line: Line


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
def running_doors(plan: Plan) -> Iterator[tuple[Door, Door, Line]]:
    """Start our door with its line, and the echo, both warm; this process is the generator."""
    cores = Cores.of_this_process()
    with ExitStack() as stack:
        stack.enter_context(bound_to(cores.rest))
        stored = stack.enter_context(running_store(plan))
        line, fresh = stored.line, stored.population.fresh(seed=1)
        stack.enter_context(bound_to(cores.server))
        stack.enter_context(running(line.services))
        ours = Door(line.services[0], line.ports.scoring, fresh.requests)
        with bound_to(cores.generator):
            answer = ours.decide_one().SerializeToString()
        echo = stack.enter_context(running_echo(plan.folder, answer, fresh.requests))
        stack.enter_context(bound_to(cores.generator))
        for door in (ours, echo):
            door.closed(plan.rows(_WARM_UP_CALLS), IN_FLIGHT)
        yield ours, echo, line


@contextmanager
def running_echo(folder: Path, answer: bytes, requests: Requests) -> Iterator[Door]:
    """Start an echo, which answers with decisions of the same size as one of ours, and end it."""
    folder.mkdir(exist_ok=True)
    path, port = folder / "answer", free_port()
    path.write_bytes(answer)
    process = worker("echo", (str(port), str(path)), {}, folder)
    with running([process]):
        yield Door(process, port, requests)
