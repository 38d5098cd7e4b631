"""One run of a side: a backlog goes in at one stroke, and the last decision ends it.

Wall time is from the first record sent to the last decision in the log. CPU time goes on until
every consumer group has committed all that it had to do, so work after the decision (state writes,
commits, shared entities) is counted too. The check of the decisions is outside both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from demo.processes import wait_until
from fraudstream.bus import BatchProducer
from fraudstream.log_reader import LogReader
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DECISIONS, Topic
from fraudstream.v1.decision_pb2 import Decision
from loadtest.bench.cpu import session_cpu_us
from loadtest.bench.figure import MeasurementFailed, Sample
from loadtest.figures.backlog import BacklogRow
from loadtest.figures.progress import GroupProgress

_POLL_S: Final = 0.1
# The slowest side needs a minute for a full backlog on a quiet machine.
_DRAIN_TIMEOUT_S: Final = 600.0
_SETTLE_TIMEOUT_S: Final = 120.0
_CHUNK: Final = 5_000


@dataclass(frozen=True, slots=True)
class Part:
    """Processes whose CPU time is reported together.

    Attributes:
        name: Such as `scoring`.
        leaders: Process ids that lead their sessions; asked for each run.
    """

    name: str
    leaders: Callable[[], set[int]]


class Drain:
    """Drains backlogs through one side.

    Args:
        kafka: Topics of the side.
        topic: Where its backlog goes.
        groups: Group names and topics that have to come to an end.
        parts: What is measured.
        is_alive: Returns why the side cannot go on, empty where it can.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: Topic,
        groups: Mapping[str, Topic],
        parts: Sequence[Part],
        is_alive: Callable[[], str],
    ) -> None:
        self._kafka = kafka
        self._topic = kafka.topic(topic)
        self._groups = [GroupProgress(kafka, of, group) for group, of in groups.items()]
        self._decided = GroupProgress(kafka, DECISIONS, f"{kafka.topic_prefix}bench-decided")
        self._parts = parts
        self._why_dead = is_alive
        self._reader = LogReader(kafka, [DECISIONS], from_end=True)

    @property
    def partitions(self) -> int:
        """Partitions of the side's topics."""
        return self._decided.partitions

    def close(self) -> None:
        """Disconnect."""
        self._reader.close()
        for progress in (*self._groups, self._decided):
            progress.close()

    def run(self, rows: Sequence[BacklogRow]) -> Sample:
        """Drain one backlog. Returns transactions per second, and each part's CPU a transaction.

        Raises:
            MeasurementFailed: A decision is missing, doubled, or not the model's.
        """
        before_us = self._cpu_us()
        already = self._decided.end()
        started_s = time.monotonic()
        asyncio.run(self._send(rows))
        self._wait(lambda: self._decided.end() - already >= len(rows), _DRAIN_TIMEOUT_S)
        wall_s = time.monotonic() - started_s
        self._wait(lambda: not any(g.uncommitted() for g in self._groups), _SETTLE_TIMEOUT_S)
        after_us = self._cpu_us()
        check_decisions(rows, [Decision.FromString(r.value) for r in self._reader.to_end()])
        spent = {f"{n}_cpu_us": (after_us[n] - before_us[n]) / len(rows) for n in before_us}
        return {"tx_per_s": len(rows) / wall_s, **spent}

    def _cpu_us(self) -> dict[str, int]:
        return {part.name: session_cpu_us(part.leaders()) for part in self._parts}

    async def _send(self, rows: Sequence[BacklogRow]) -> None:
        producer = BatchProducer(self._kafka)
        await producer.start()
        try:
            for begin in range(0, len(rows), _CHUNK):
                records = [row.record for row in rows[begin : begin + _CHUNK]]
                await producer.send(self._topic, records)
        finally:
            await producer.stop()

    def _wait(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        if not wait_until(lambda: bool(self._why_dead()) or is_done(), timeout_s, _POLL_S):
            left = [group.uncommitted() for group in self._groups]
            raise MeasurementFailed(f"not drained in {timeout_s:g} s, uncommitted records {left}")
        if self._why_dead():
            raise MeasurementFailed(self._why_dead())


def check_decisions(rows: Sequence[BacklogRow], decisions: Sequence[Decision]) -> None:
    """Check that every transaction has one decision of the model.

    Raises:
        MeasurementFailed: One is missing, doubled, strange, or a stand-in.
    """
    wanted = {(row.bank_id, row.transaction_id) for row in rows}
    found = {(decision.bank_id, decision.transaction_id) for decision in decisions}
    stand_ins = sum(decision.stand_in for decision in decisions)
    if found != wanted or len(decisions) != len(rows) or stand_ins:
        msg = f"{len(rows)} transactions: expected one decision of the model for each, found"
        raise MeasurementFailed(
            f"{msg} {len(decisions)}, {len(wanted - found)} missing, {len(found - wanted)} strange,"
            f" {stand_ins} stand-ins"
        )
