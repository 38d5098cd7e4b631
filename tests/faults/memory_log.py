"""Logs in memory: a broker whose sends fail in the ways of a real one, and its consumer groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord

from fraudstream.broker.clients import OutRecord
from fraudstream.broker.log_reader import Bounds
from fraudstream.broker.topic_info import Log
from fraudstream.errors import BrokerUnavailable
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, DLQ, ENTITIES, STAND_INS
from tests.faults.stepping import Fate, Process, Schedule

_FATES = (Fate.OK, Fate.NOT_RUN, Fate.ANSWER_LOST, Fate.LATE, Fate.PART)


class MemoryBroker:
    """Partitions as lists. An append is acknowledged, or its sender does not know."""

    def __init__(self, cards: int, entities: int, clock_ms: Callable[[], int]) -> None:
        by_card = dict.fromkeys((ACCEPTED, DECISIONS, STAND_INS, ALERTS), cards)
        counts = {**by_card, ENTITIES: entities, DLQ: 1}
        self._clock_ms = clock_ms
        self._partitions: dict[str, list[list[ConsumerRecord]]] = {
            topic.name: [[] for _ in range(count)] for topic, count in counts.items()
        }
        self.accepted = Log(ACCEPTED.name, b"a" * 16, cards)
        self.entities = Log(ENTITIES.name, b"e" * 16, entities)

    def records(self, topic: str, partition: int) -> list[ConsumerRecord]:
        """Return the records of one partition."""
        return self._partitions[topic][partition]

    def bounds(self, topic: str, partition: int) -> Bounds:
        """Return where a partition begins and ends."""
        return Bounds(0, len(self.records(topic, partition)))

    def all_records(self, topic: str) -> list[ConsumerRecord]:
        """Return the records of a topic, partition after partition."""
        return [record for chunk in self._partitions[topic] for record in chunk]

    def append(self, topic: str, out: OutRecord) -> None:
        """Append one record."""
        chunk = self._partitions[topic][out.partition]
        chunk.append(
            ConsumerRecord(
                topic=topic,
                partition=out.partition,
                offset=len(chunk),
                timestamp=self._clock_ms(),
                timestamp_type=1,
                key=out.key,
                value=out.value,
                checksum=None,
                serialized_key_size=len(out.key),
                serialized_value_size=len(out.value),
                headers=tuple(out.headers),
            )
        )


class SteppedProducer:
    """An idempotent producer: in order for each partition, also over what is sent late."""

    def __init__(self, process: Process, schedule: Schedule, broker: MemoryBroker) -> None:
        self._process = process
        self._schedule = schedule
        self._broker = broker
        self._on_the_way: dict[tuple[str, int], list[OutRecord]] = {}

    async def send(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Append the records; each partition's chunk has a fate of its own.

        Raises:
            BrokerUnavailable: Not all are known to be appended.
        """
        chunks: dict[int, list[OutRecord]] = {}
        for record in records:
            chunks.setdefault(record.partition, []).append(record)
        fates = [
            await self._send_chunk(topic, partition, chunk) for partition, chunk in chunks.items()
        ]
        if any(fate is not Fate.OK for fate in fates):
            msg = f"{topic}: not acknowledged: {fates}"
            raise BrokerUnavailable(msg)

    async def _send_chunk(self, topic: str, partition: int, chunk: list[OutRecord]) -> Fate:
        name = f"send {topic}"
        await self._schedule.turn(self._process, name)
        fate = self._schedule.choose(self._process, name, _FATES)
        if fate is Fate.NOT_RUN:
            return fate
        waiting = self._on_the_way.setdefault((topic, partition), [])
        waiting += chunk[: len(chunk) // 2] if fate is Fate.PART else chunk
        if fate is Fate.LATE:
            self._schedule.later(f"late {name}", lambda: self._arrive(topic, partition))
            return fate
        self._arrive(topic, partition)
        await self._schedule.turn(self._process, f"sent {topic}")
        return fate

    def _arrive(self, topic: str, partition: int) -> None:
        waiting = self._on_the_way[topic, partition]
        for record in waiting:
            self._broker.append(topic, record)
        waiting.clear()


@dataclass
class Group:
    """A consumer group: who reads what, in which generation, and what was committed.

    Attributes:
        partitions: Of the topic.
        generation: Grows with every assignment; commits of an older one are refused.
        assigned: Partitions of each member.
        committed: Position of each partition.
    """

    partitions: int
    generation: int = 0
    assigned: dict[str, set[int]] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)

    def assign(self, owners: Mapping[int, str]) -> None:
        """Give each partition to a member. The members before may not have noticed yet."""
        self.generation += 1
        self.assigned = {}
        for partition, member in owners.items():
            self.assigned.setdefault(member, set()).add(partition)

    def commit(self, generation: int, positions: Mapping[int, int]) -> None:
        """Commit positions of the current generation."""
        if generation == self.generation:
            self.committed.update(positions)
