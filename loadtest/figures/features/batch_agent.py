"""Our batch agent against a stock Faust agent: both only count records of 200 bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

from fraudstream.broker.clients import OutRecord
from harness.servers import lacking_for_kafka
from loadtest.bench.cpu import lacking_for_cpu
from loadtest.bench.figure import Plan, Side, Sides, experiment, ratio
from loadtest.figures.line.consumption import running_worker
from loadtest.figures.line.servers import apache_kafka, running_broker
from loadtest.figures.table import figure
from loadtest.workers.counting import BATCHES_GROUP, EVENTS_GROUP

# As many as each side needs for about a second of CPU time, whose grain is 10 ms.
EVENTS: Final = 10_000
RECORDS: Final = 150_000
_WARM_UP: Final = 2_000
_VALUE_BYTES: Final = 200


@experiment(
    figure("batch_faust_vs_stock", ratio("stock", "batches")),
    needs=(lacking_for_kafka, lacking_for_cpu),
)
def batch_agent_vs_stock(plan: Plan) -> Iterator[Sides]:
    """Cost of a record that nothing is done with."""
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(apache_kafka(plan)))
        sides: dict[str, Side] = {}
        for side, role, group, full in (
            ("stock", "count-events", EVENTS_GROUP, EVENTS),
            ("batches", "count-batches", BATCHES_GROUP, RECORDS),
        ):
            environment = {**broker.environment, "FRAUD_KAFKA_TOPIC_PREFIX": f"bench-{side}-"}
            worker = stack.enter_context(
                running_worker(role, group, environment, plan.folder / side)
            )
            worker.run(_records(_WARM_UP, worker.partitions))
            sides[side] = partial(worker.run, _records(plan.rows(full), worker.partitions))
        yield sides


def _records(count: int, partitions: int) -> list[OutRecord]:
    value = os.urandom(_VALUE_BYTES)
    return [OutRecord(b"%d" % number, value, number % partitions) for number in range(count)]
