"""From a raw record to its decision, at half load, beside a bare chain of the same hops.

Records are appended at independent random times. Latency counts from when a record was due to when
its decision was read, by the same reader on both sides: it holds append and reading, of both alike.
The maximum of the line is found first, by a backlog. Both are simulated traffic in its own event
time, of many cards: flagged rows are as rare as in life.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Final, NamedTuple

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from google.protobuf.message import Message

from fraudstream.broker.clients import aiokafka_options, aiokafka_producer_options, fetch_wait_ms
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS, RAW
from fraudstream.transaction.formats import CONTENT_TYPE, PROTOBUF
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import ScoreRequest
from fraudstream.v1.transaction_pb2 import Transaction
from harness.line import SERVICES
from harness.settings import kafka_settings_in
from loadtest.bench.cpu import lacking_for_cpu
from loadtest.bench.figure import MeasurementFailed, Plan, Sample, Sides, experiment, ratio
from loadtest.figures.line.backlog import raw_rows, traffic_settings
from loadtest.figures.line.line import drain_of
from loadtest.figures.line.servers import (
    any_broker,
    line_of,
    running,
    running_broker,
    side_servers,
    worker,
)
from loadtest.figures.scoring.doors import running_echo
from loadtest.figures.table import figure
from loadtest.generator.calls import due_times_ns, percentile
from training.simulator.simulate import live_traffic

SECONDS: Final = 15.0
PEAK_ROWS: Final = 8_000
_LEAST_SECONDS: Final = 1.0
_WARM_UP_ROWS: Final = 1_000
_PATIENCE_S: Final = 30.0
_NS_PER_MS: Final = 1e6
_LINE: Final = tuple(service for service in SERVICES if service[0] != "services.console")


@experiment(
    figure("line_p99_vs_echo", ratio("ours", "chain", "p99_ms")),
    needs=(lacking_for_cpu,),
)
def line_p99_vs_echo(plan: Plan) -> Iterator[Sides]:
    """Start line and chain on one broker, find the line's maximum, and end all on leaving."""
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(any_broker(plan)))
        our = stack.enter_context(side_servers(broker, "ours", plan.folder))
        bare = {**broker.environment, "FRAUD_KAFKA_TOPIC_PREFIX": "bench-chain-"}
        line = line_of(our.environment, plan.folder / "ours", _LINE)
        stack.enter_context(running(line.services))
        with closing(drain_of(line, our, RAW)) as drain:
            rows = raw_rows(traffic_settings(), drain.partitions)
            drain.run_next(rows, plan.rows(_WARM_UP_ROWS))
            peak = drain.run_next(rows, plan.rows(PEAK_ROWS))["tx_per_s"]
        stack.enter_context(_running_chain(plan, bare))
        seconds = max(_LEAST_SECONDS, SECONDS * min(plan.scale, 1.0))
        load = _Load(_other_traffic(), peak / 2, seconds)
        ours = partial(load.run, kafka_settings_in(our.environment), lambda t: t)
        bare_chain = partial(
            load.run, kafka_settings_in(bare), lambda t: ScoreRequest(transaction=t)
        )
        bare_chain()
        yield {"ours": ours, "chain": bare_chain}


@contextmanager
def _running_chain(plan: Plan, environment: Mapping[str, str]) -> Iterator[None]:
    """Make the chain's topics, start its echo and its two hops, and end them."""
    folder = plan.folder / "chain"
    line_of(environment, folder)
    # About the size of a real decision.
    answer = Decision(digest=bytes(32), vector=bytes(200)).SerializeToString()
    with running_echo(folder, answer, lambda _: []) as echo:
        roles = {"relay": (), "ask": (f"127.0.0.1:{echo.port}",)}
        hops = [worker(role, told, environment, folder) for role, told in roles.items()]
        with running(hops):
            yield


class _Sent(NamedTuple):
    """One record that is due, and its transaction's id."""

    transaction_id: str
    key: bytes
    value: bytes


def _other_traffic() -> Iterator[Transaction]:
    """Yield transactions of other cards and ids than the backlog's."""
    settings = traffic_settings()
    for simulated in live_traffic(replace(settings, seed=settings.seed + 1)):
        transaction = simulated.transaction
        transaction.transaction_id = f"latency-{transaction.transaction_id}"
        yield transaction


@dataclass(frozen=True, slots=True)
class _Load:
    """Sends records when they are due, and reads their decisions."""

    transactions: Iterator[Transaction]
    rate_per_s: float
    seconds: float

    def run(self, kafka: KafkaSettings, value_of: Callable[[Transaction], Message]) -> Sample:
        """Load one side; return percentiles of the time to a decision."""
        seed = secrets.randbelow(1 << 20)
        due_ns = due_times_ns(self.rate_per_s, self.seconds, seed).tolist()
        sent = [
            _Sent(t.transaction_id, t.customer_id.encode(), value_of(t).SerializeToString())
            for t in islice(self.transactions, len(due_ns))
        ]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            latencies_ms = runner.run(_measure(kafka, sent, due_ns))
        return {
            "p50_ms": percentile(latencies_ms, 50),
            "p99_ms": percentile(latencies_ms, 99),
            "rate_per_s": self.rate_per_s,
        }


async def _measure(
    kafka: KafkaSettings, sent: Sequence[_Sent], due_ns: Sequence[int]
) -> list[float]:
    consumer = AIOKafkaConsumer(**aiokafka_options(kafka), fetch_max_wait_ms=fetch_wait_ms(kafka))
    producer = AIOKafkaProducer(**aiokafka_producer_options(kafka))
    await producer.start()
    await consumer.start()
    try:
        name = kafka.topic(DECISIONS)
        parts = await producer.partitions_for(name)
        consumer.assign([TopicPartition(name, part) for part in parts])
        await consumer.seek_to_end()
        seen: dict[str, int] = {}
        reading = asyncio.create_task(_read(consumer, seen, len(sent)))
        begun_ns = await _send(producer, kafka.topic(RAW), sent, due_ns)
        await asyncio.wait([reading], timeout=_PATIENCE_S)
        if not reading.done():
            raise MeasurementFailed(f"{len(sent)} records were sent, {len(seen)} decisions came")
        ended_ns = [seen[each.transaction_id] - begun_ns for each in sent]
        return [(end - due) / _NS_PER_MS for end, due in zip(ended_ns, due_ns, strict=True)]
    finally:
        await consumer.stop()
        await producer.stop()


async def _read(consumer: AIOKafkaConsumer, seen: dict[str, int], wanted: int) -> None:
    while len(seen) < wanted:
        came = await consumer.getmany(timeout_ms=100)
        now_ns = time.monotonic_ns()
        for record in chain.from_iterable(came.values()):
            seen.setdefault(Decision.FromString(record.value or b"").transaction_id, now_ns)


async def _send(
    producer: AIOKafkaProducer, topic: str, sent: Sequence[_Sent], due_ns: Sequence[int]
) -> int:
    """Send each record when it is due; return when the run began, monotonic nanoseconds."""
    begun_ns = time.monotonic_ns()
    for each, due in zip(sent, due_ns, strict=True):
        left_ns = begun_ns + due - time.monotonic_ns()
        if left_ns > 0:
            await asyncio.sleep(left_ns / 1e9)
        await producer.send(topic, each.value, key=each.key, headers=[(CONTENT_TYPE, PROTOBUF)])
    await producer.flush()
    return begun_ns
