"""Our batch agent against a stock Faust agent: both only count records of 200 bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final

from demo.servers import ApacheKafka, lacking_for_kafka
from demo.settings import MachineSettings
from fraudstream.bus import OutRecord
from fraudstream.errors import InvalidSettings
from loadtest.bench.cpu import lacking_for_cpu
from loadtest.bench.figure import Figure, Plan, Round, Side
from loadtest.bench.spent import beside
from loadtest.figures.consumption import Consumption, running_worker
from loadtest.figures.servers import running_broker
from loadtest.workers.counting import BATCHES_GROUP, EVENTS_GROUP

# As many as each side needs for about a second of CPU time, whose grain is 10 ms.
EVENTS: Final = 10_000
RECORDS: Final = 150_000
_WARM_UP: Final = 2_000
_VALUE_BYTES: Final = 200


class BatchAgentVsStock:
    """Cost of a record that nothing is done with."""

    figures = (
        Figure(
            "batch_faust_vs_stock",
            "CPU a record that is only counted: stock Faust agent / our batch agent",
            "ratio",
            must=15.0,
            aim=40.0,
        ),
    )

    def __init__(self, machine: MachineSettings) -> None:
        self._machine = machine

    def lacking(self) -> str:
        """Return why this machine cannot run it, empty where it can."""
        return lacking_for_kafka(self._machine) or lacking_for_cpu()

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Start Kafka and both agents, warm them up, and end all on leaving."""
        home, java = self._machine.kafka_home, self._machine.java
        if home is None or java is None:
            raise InvalidSettings(self.lacking())
        with ExitStack() as stack:
            broker = ApacheKafka(home, plan.folder / "kafka", java)
            stack.enter_context(running_broker(broker))
            sides: dict[str, Side] = {}
            for side, role, group, full in (
                ("stock", "count-events", EVENTS_GROUP, EVENTS),
                ("batches", "count-batches", BATCHES_GROUP, RECORDS),
            ):
                environment = {
                    **broker.environment(),
                    "FRAUD_KAFKA_TOPIC_PREFIX": f"bench-{side}-",
                }
                worker = stack.enter_context(
                    running_worker(role, group, environment, plan.folder / side)
                )
                worker.run(_records(_WARM_UP, worker.partitions))
                sides[side] = _side(worker, plan.rows(full))
            yield sides

    def values(self, measured: Round) -> dict[str, float]:
        """Return the ratio of one round, with what each side spent on a record."""
        ratio = measured["stock"]["cpu_us"] / measured["batches"]["cpu_us"]
        return {"batch_faust_vs_stock": ratio, **beside(dict(measured))}


def _records(count: int, partitions: int) -> list[OutRecord]:
    value = os.urandom(_VALUE_BYTES)
    return [OutRecord(b"%d" % number, value, number % partitions) for number in range(count)]


def _side(worker: Consumption, count: int) -> Side:
    records = _records(count, worker.partitions)
    return lambda: worker.run(records)
