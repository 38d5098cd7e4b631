"""One run of a side: a backlog goes in at one stroke, and the last decision ends it.

Wall time is from the first record sent to the last decision in the log. CPU time goes on until
every consumer group has committed all that it had to do, so work after the decision (state writes,
commits, shared entities) is counted too. The check of the decisions is outside both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from fraudstream.broker.clients import BatchProducer, OutRecord, kafka_python_options
from fraudstream.broker.log_reader import LogReader
from fraudstream.errors import BrokerUnavailable
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS, Topic
from fraudstream.v1.decision_pb2 import Decision
from harness.processes import wait_until
from harness.service_process import ServiceProcess
from loadtest.bench.cpu import session_cpu_us
from loadtest.bench.figure import MeasurementFailed, Plan, Sample, Side
from loadtest.figures.line.backlog import BacklogRow
from loadtest.figures.line.servers import Servers

# Rows before the measurement: caches are full, every partition has met its consumer.
WARM_UP_ROWS: Final = 500
_POLL_S: Final = 0.1
# The slowest side needs a minute for a full backlog on a quiet machine.
_DRAIN_TIMEOUT_S: Final = 600.0
_SETTLE_TIMEOUT_S: Final = 120.0
_REQUEST_TIMEOUT_MS: Final = 30_000
_CHUNK: Final = 5_000


class GroupProgress:
    """How far a consumer group, by its full name, has come on a topic; it does not join."""

    def __init__(self, kafka: KafkaSettings, topic: Topic, group: str) -> None:
        self._consumer = KafkaConsumer(
            **kafka_python_options(kafka),
            group_id=group,
            enable_auto_commit=False,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        name = kafka.topic(topic)
        found = self._consumer.partitions_for_topic(name)
        if not found:
            raise BrokerUnavailable(f"topic {name} is not there")
        self._parts = [TopicPartition(name, partition) for partition in sorted(found)]
        self.partitions = len(self._parts)

    def end(self) -> int:
        """Return how many records the topic has ever held."""
        return sum(self._consumer.end_offsets(self._parts).values())

    def uncommitted(self) -> int:
        """Return how many records the group has not finished."""
        ends = self._consumer.end_offsets(self._parts)
        return sum(end - (self._consumer.committed(part) or 0) for part, end in ends.items())

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close(autocommit=False)


async def append(kafka: KafkaSettings, topic: Topic, records: Sequence[OutRecord]) -> None:
    """Append records to a topic, each in the partition that it names."""
    producer = BatchProducer(kafka, "ingest")
    await producer.start()
    try:
        for begin in range(0, len(records), _CHUNK):
            await producer.send(kafka.topic(topic), records[begin : begin + _CHUNK])
    finally:
        await producer.stop()


class Drain:
    """Drains backlogs of a topic through one side, whose services and servers are measured.

    `groups` has names, without the prefix, and the topics that they have to finish.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        services: Sequence[ServiceProcess],
        servers: Servers,
        topic: Topic,
        groups: Mapping[str, Topic],
    ) -> None:
        self._kafka, self._topic = kafka, topic
        self._services, self._servers = services, servers
        self._groups = [GroupProgress(kafka, of, kafka.group(name)) for name, of in groups.items()]
        self._decided = GroupProgress(kafka, DECISIONS, f"{kafka.topic_prefix}bench-decided")
        self._reader = LogReader(kafka, [DECISIONS], from_end=True)
        self.partitions = self._decided.partitions

    def close(self) -> None:
        """Disconnect."""
        self._reader.close()
        for progress in (*self._groups, self._decided):
            progress.close()

    def side(self, rows: Iterator[BacklogRow], plan: Plan, full_rows: int) -> Side:
        """Warm up; return what drains the next `full_rows` rows, as scaled, in each run."""
        self.run_next(rows, plan.rows(WARM_UP_ROWS))
        return lambda: self.run_next(rows, plan.rows(full_rows))

    def run_next(self, rows: Iterator[BacklogRow], count: int) -> Sample:
        """Drain the next rows. Returns transactions per second, and each part's CPU of one."""
        chosen = list(islice(rows, count))
        before_us = self._cpu_us()
        already = self._decided.end()
        started_s = time.monotonic()
        asyncio.run(append(self._kafka, self._topic, [row.record for row in chosen]))
        self._wait(lambda: self._decided.end() - already >= count, _DRAIN_TIMEOUT_S)
        wall_s = time.monotonic() - started_s
        self._wait(lambda: not any(g.uncommitted() for g in self._groups), _SETTLE_TIMEOUT_S)
        after_us = self._cpu_us()
        check_decisions(chosen, [Decision.FromString(r.value) for r in self._reader.to_end()])
        spent = {f"{n}_cpu_us": (after_us[n] - before_us[n]) / count for n in before_us}
        return {"tx_per_s": count / wall_s, **spent}

    def _cpu_us(self) -> dict[str, int]:
        # A service may have been started again, as another process.
        leaders = {service.name: {service.pid} for service in self._services} | self._servers.pids
        return {name: session_cpu_us(pids) for name, pids in leaders.items()}

    def _wait(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        def is_over() -> bool:
            return bool(dead_among(self._services)) or is_done()

        in_time, why_dead = wait_until(is_over, timeout_s, _POLL_S), dead_among(self._services)
        if why_dead:
            raise MeasurementFailed(why_dead)
        if not in_time:
            left = [group.uncommitted() for group in self._groups]
            raise MeasurementFailed(f"not drained in {timeout_s:g} s, uncommitted records {left}")


def dead_among(services: Sequence[ServiceProcess]) -> str:
    """Return the end of the log of a service that has ended, empty where all run."""
    for service in services:
        if not service.is_running:
            tail = "\n".join(service.log_text().splitlines()[-15:])
            return f"{service.name} ended with code {service.exit_code}:\n{tail}"
    return ""


def check_decisions(rows: Sequence[BacklogRow], decisions: Sequence[Decision]) -> None:
    """Check that every transaction has one decision of the model, else `MeasurementFailed`."""
    wanted = {(row.bank_id, row.transaction_id) for row in rows}
    found = {(decision.bank_id, decision.transaction_id) for decision in decisions}
    stand_ins = sum(decision.stand_in for decision in decisions)
    if found != wanted or len(decisions) != len(rows) or stand_ins:
        msg = f"{len(rows)} transactions: expected one decision of the model for each, found"
        raise MeasurementFailed(
            f"{msg} {len(decisions)}, {len(wanted - found)} missing, {len(found - wanted)} strange,"
            f" {stand_ins} stand-ins"
        )
