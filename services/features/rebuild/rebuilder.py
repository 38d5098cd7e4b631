"""Rebuild a shard: fill a new generation from the log, point the marker at it, free the old one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from fraudstream.broker.log_reader import Bounds, bounds_of, chunks_of
from fraudstream.broker.topic_info import Log, find_log
from fraudstream.errors import InvalidSettings
from fraudstream.settings import KafkaSettings
from fraudstream.store.generations import Generations, Switch, earlier_generation
from fraudstream.store.shard import Marker, Role, ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.topics import ACCEPTED, DECISIONS, ENTITIES, topic_id_of
from services.features.rebuild.card_filler import CardFiller
from services.features.rebuild.entity_filler import EntityFiller
from services.features.rebuild.job import Filled, Filler, Job, Progress
from services.features.shards.source_ends import SourceEnds

_LOG: Final = logging.getLogger(__name__)

TOPICS: Final = {Role.CARD: ACCEPTED, Role.ENTITY: ENTITIES}


@dataclass(frozen=True, slots=True)
class RebuildParts:
    """What every rebuild works with: a connected store, the broker, and a clock of epoch ms."""

    store: StateStore
    kafka: KafkaSettings
    clock_ms: Callable[[], int]


class Rebuilder:
    """Rebuilds shards of one role.

    Two of them may fill one shard at once: each fills a generation of its own, and one switches.

    Args:
        parts: Store, broker and clock.
        role: Cards or entities.
        log: The log that the shards follow.
        filler: Fills a generation of that role.
    """

    def __init__(self, parts: RebuildParts, role: Role, log: Log, filler: Filler) -> None:
        self._parts = parts
        self._role = role
        self.log = log
        self._generations = Generations(parts.store)
        self._filler = filler

    @property
    def partitions(self) -> int:
        """How many shards there are."""
        return self.log.partitions

    def shard(self, partition: int) -> ShardRef:
        """Return a shard by its log and layout, whatever its generation."""
        return ShardRef(self._role, partition, self.log.incarnation)

    async def fill(
        self, partition: int, progress: Progress, *, has_all_partitions: bool = False
    ) -> Filled:
        """Fill a new generation of a shard. Nobody reads it before the switch.

        Args:
            partition: Which shard.
            progress: Where to count.
            has_all_partitions: Read the whole topic, for keys that once lay in other partitions.

        Raises:
            InvalidSettings: The decisions topic has not the partitions of the accepted topic.
            OnlineStoreUnavailable: The store did not answer, over several attempts.
            BrokerUnavailable: The broker did not.
        """
        await self._check_topics()
        shard = self.shard(partition)
        read = await self._parts.store.marker(shard)
        bounds = await self._bounds(partition)
        begun = await self._generations.begin(shard, self._parts.clock_ms())
        job = Job(
            shard=begun,
            log=self.log,
            read=read,
            begin=bounds.begin,
            other_partitions=self._others(partition, read, has_all_partitions),
            is_log_cut=bool(read and self._is_cut(bounds, read)),
            progress=progress,
        )
        return await self._filler.fill(job)

    async def is_open(self, marker: Marker | None, partition: int) -> bool:
        """Return whether a marker is that of an open shard whose log holds what was applied."""
        if marker is None:
            return False
        known = replace(self.shard(partition), generation=marker.generation)
        is_cut = self._is_cut(await self._bounds(partition), marker)
        return marker.is_open_for(known) and not is_cut

    async def switch(self, filled: Filled) -> Switch:
        """Point the marker at a filled generation, and free the one before.

        Raises:
            OnlineStoreUnavailable: The store does not answer; whether it switched is unknown.
        """
        shard, read = filled.job.shard, filled.job.read
        outcome = await self._generations.switch(read, shard, filled.next_offset)
        if outcome is Switch.SWITCHED:
            _LOG.info(
                "shard %s%d goes on in generation %s at offset %d, with %d states",
                shard.role,
                shard.partition,
                shard.generation,
                filled.next_offset,
                filled.states,
            )
            await self._free(filled)
        return outcome

    async def _free(self, filled: Filled) -> None:
        """Free what the generation before held of the same entities; its claims age out."""
        earlier = earlier_generation(filled.job.shard, filled.job.read)
        if earlier is not None:
            await self._generations.drop(filled.keys(self._parts.store.keys(earlier)))

    async def _bounds(self, partition: int) -> Bounds:
        topics = [TOPICS[self._role]]
        return (await asyncio.to_thread(bounds_of, self._parts.kafka, topics, partition))[0]

    def _is_cut(self, bounds: Bounds, marker: Marker) -> bool:
        # The embedded broker may name the begin of its last batch as its end, and is never cut.
        return not self._parts.kafka.is_embedded and bounds.end < marker.next_offset

    def _others(self, partition: int, read: Marker | None, has_all: bool) -> list[int]:
        is_widened = read is not None and (
            topic_id_of(read.incarnation) == self.log.topic_id
            and read.incarnation != self.log.incarnation
        )
        others = [p for p in range(self.log.partitions) if p != partition]
        return others if has_all or is_widened else []

    async def _check_topics(self) -> None:
        if self._role is not Role.CARD:
            return
        decisions = await asyncio.to_thread(find_log, self._parts.kafka, DECISIONS)
        if decisions.partitions != self.log.partitions:
            msg = (
                f"topic {decisions.name} has {decisions.partitions} partitions and"
                f" {self.log.name} has {self.log.partitions}: a card's decisions are looked for"
                " in the partition of its rows, so both need the same count"
            )
            raise InvalidSettings(msg)


def rebuilder_of(parts: RebuildParts, role: Role, log: Log) -> Rebuilder:
    """Return what rebuilds the shards of a role that follow a log."""
    chunks = partial(chunks_of, parts.kafka)
    if role is Role.CARD:
        return Rebuilder(parts, role, log, CardFiller(parts.store, chunks, parts.clock_ms))
    return Rebuilder(parts, role, log, EntityFiller(parts.store, chunks, SourceEnds(parts.kafka)))
