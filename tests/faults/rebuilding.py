"""What the features service asks of its logs beside polls: here the logs in memory answer.

The rebuild is the service's own: `BackgroundRebuilds`, `Rebuilder`, `CardFiller`,
`EntityFiller` and `Generations` over the scripts. Reading a log takes a turn before each chunk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fraudstream.broker.log_reader import Bounds
from fraudstream.settings import KafkaSettings
from fraudstream.store.shard import Role
from fraudstream.store.shard_store import StateStore
from fraudstream.topics import Topic
from services.features.rebuild.background import BackgroundRebuilds
from services.features.rebuild.card_filler import CardFiller
from services.features.rebuild.entity_filler import EntityFiller
from services.features.rebuild.job import Filler, Progress
from services.features.rebuild.rebuilder import TOPICS, Rebuilder, RebuildParts
from services.features.shards.loss import LossReason
from services.features.shards.positions import Positions
from tests.faults.memory_log import MemoryBroker
from tests.faults.stepping import Process, Schedule
from tests.worlds.accepted_rows import all_reached

KAFKA: Final = KafkaSettings()
_LOT_ROWS: Final = 3


class MemoryPositions(Positions):
    """Positions that ask the logs in memory where they begin and end."""

    broker: MemoryBroker

    async def _bounds(self, topics: Sequence[Topic], partition: int) -> list[Bounds]:
        return [self.broker.bounds(topic.name, partition) for topic in topics]


class MemoryRebuilder(Rebuilder):
    """A rebuilder that asks the logs in memory."""

    broker: MemoryBroker

    async def _bounds(self, partition: int) -> Bounds:
        return self.broker.bounds(TOPICS[self._role].name, partition)

    async def _check_topics(self) -> None:
        """Find nothing to check: both topics are made with the same count."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker rebuilds its shards with.

    Attributes:
        process: The worker.
        schedule: Who moves.
        broker: The logs.
        store: The worker's client.
        clock_ms: Epoch milliseconds.
        card_filler: Fills card shards.
    """

    process: Process
    schedule: Schedule
    broker: MemoryBroker
    store: StateStore
    clock_ms: Callable[[], int]
    card_filler: type[CardFiller]

    async def chunks(
        self, topic: Topic, partition: int, begin: int = 0
    ) -> AsyncGenerator[Any, None]:
        """Yield the records of a partition up to the end that it has at first."""
        end = self.broker.bounds(topic.name, partition).end
        for at in range(begin, end, _LOT_ROWS):
            await self.schedule.turn(self.process, f"read {topic.name}")
            yield self.broker.records(topic.name, partition)[at : min(at + _LOT_ROWS, end)]

    def rebuilder(self, role: Role) -> MemoryRebuilder:
        """Return what rebuilds the shards of a role."""
        filler: Filler = (
            self.card_filler(self.store, self.chunks, self.clock_ms)
            if role is Role.CARD
            else EntityFiller(self.store, self.chunks, all_reached)
        )
        log = self.broker.accepted if role is Role.CARD else self.broker.entities
        rebuilder = MemoryRebuilder(
            RebuildParts(self.store, KAFKA, self.clock_ms), role, log, filler
        )
        rebuilder.broker = self.broker
        return rebuilder


class SteppedRebuilds(BackgroundRebuilds):
    """Rebuilds that wait for what producers gave up, instead of for their delivery time-out."""

    def __init__(self, parts: WorkerParts, role: Role) -> None:
        super().__init__(parts.store, parts.rebuilder(role), 0.0, Progress())
        self._parts = parts

    async def _wait(self, partition: int, reason: LossReason) -> None:
        """Wait until what senders gave up has arrived."""
        schedule = self._parts.schedule
        while any(s.name.startswith("late send") for s in schedule.steps_of(schedule.network)):
            await schedule.turn(self._parts.process, "wait for late sends")
