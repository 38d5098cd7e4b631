"""Where this worker stands in each shard: taken from the marker, forgotten whenever in doubt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka import ConsumerRecord

from fraudstream.errors import ShardClosed
from fraudstream.settings import KafkaSettings
from fraudstream.shard import Role, ShardRef
from fraudstream.state_store import StateStore
from fraudstream.topics import DECISIONS, Topic
from services.features.logs import Log, bounds_of

_LOG = logging.getLogger(__name__)

# A shard that failed is left alone so long before its marker is read again.
RETRY_S: Final = 0.2

Seek = Callable[[int, int], None]
Highwater = Callable[[int], int | None]


class Positions:
    """Positions of the assigned shards of one log.

    The marker in the store is the position; what Kafka has committed only saves reading again.

    Args:
        store: Where the markers are.
        kafka: Where the logs are.
        role: Cards or entities.
        topic: The topic that the shards follow.
        log: The same as it was at the start of this worker.
    """

    def __init__(
        self, store: StateStore, kafka: KafkaSettings, role: Role, topic: Topic, log: Log
    ) -> None:
        self._store = store
        self._kafka = kafka
        self._role = role
        self._topic = topic
        self._log = log
        self._known: dict[int, int] = {}
        self._sought: set[int] = set()
        self._just_read: set[int] = set()
        self._looking = asyncio.Lock()
        self.seek: Seek = lambda _partition, _offset: None
        self.highwater: Highwater = lambda _partition: None

    def shard(self, partition: int) -> ShardRef:
        """Return the shard of a partition as this worker believes it to be."""
        return ShardRef(self._role, partition, self._log.incarnation)

    def forget_all(self) -> None:
        """Forget every position: the assignment is another."""
        self._known.clear()
        self._sought.clear()
        self._just_read.clear()

    def forget(self, partition: int) -> None:
        """Forget one position: a write was refused, or its outcome is unknown."""
        self._known.pop(partition, None)

    def moved(self, partition: int, offset: int) -> None:
        """Take note that a write moved the marker to `offset`."""
        self._known[partition] = offset
        self._sought.discard(partition)

    async def position(self, partition: int) -> int:
        """Return where a shard stands, read from its marker where it is not known.

        Raises:
            ShardClosed: The shard is not open, and may not be opened empty.
            OnlineStoreUnavailable: The store does not answer.
        """
        known = self._known.get(partition)
        if known is None:
            known = self._known[partition] = await self._read_marker(partition)
            self._just_read.add(partition)
        return known

    async def check(self, partition: int) -> None:
        """Compare an idle shard's marker with what this worker believes, and read on there.

        Raises:
            ShardClosed: It is another, or the log lost what the marker says was applied.
            ShardMoved: Another worker moved it.
        """
        at = await self.position(partition)
        await self._store.read_shard(self.shard(partition), at, ())
        self._refuse_if_truncated(partition, at)
        if partition in self._just_read:
            self._just_read.discard(partition)
            self.seek(partition, at)

    def is_behind(self, partition: int, offset: int) -> bool:
        """Tell whether the log holds records at `offset` or beyond, or nobody knows."""
        end = self.highwater(partition)
        return end is None or end > offset

    def rows_from(
        self, partition: int, at: int, records: Sequence[ConsumerRecord]
    ) -> Sequence[ConsumerRecord]:
        """Return the records that are not applied yet; seek, and return none, where some lack.

        A hole that is still there after seeking is a hole in the log, and is stepped over.

        Raises:
            ShardClosed: The log lost what the marker says was applied.
        """
        self._refuse_if_truncated(partition, at)
        self._just_read.discard(partition)
        fresh = [record for record in records if record.offset >= at]
        if fresh and fresh[0].offset > at and partition not in self._sought:
            self._sought.add(partition)
            self.seek(partition, at)
            return ()
        return fresh

    async def _read_marker(self, partition: int) -> int:
        shard = self.shard(partition)
        marker = await self._store.marker(shard)
        if marker is None:
            await self._refuse_if_lost(partition)
            marker = await self._store.open_shard(shard, next_offset=0)
            _LOG.info("opened shard %s%d, which was never opened before", shard.role, partition)
        if not self._store.is_open(shard, marker):
            msg = (
                f"shard {shard.role}{partition} is closed: its marker names log"
                f" {marker.incarnation}, layout {marker.layout}, primary {marker.primary[:8]};"
                f" this worker has {shard.incarnation}, {shard.layout},"
                f" {self._store.primary[:8]}. The store was replaced, the topic made anew, or the"
                " catalogue changed: rebuild it, or begin with another FRAUD_REDIS_KEY_PREFIX"
            )
            raise ShardClosed(msg)
        return marker.next_offset

    def _refuse_if_truncated(self, partition: int, at: int) -> None:
        """Refuse to go on where the log ends below the marker: its new rows would be skipped."""
        # The embedded broker may name the begin of its last batch as its end, and is never cut.
        end = None if self._kafka.is_embedded else self.highwater(partition)
        if end is not None and end < at:
            msg = (
                f"shard {self._role}{partition} is closed: its marker stands at {at}, but the log"
                f" ends at {end}. The log lost records: rebuild the shard"
            )
            raise ShardClosed(msg)

    async def _refuse_if_lost(self, partition: int) -> None:
        """Refuse to open a shard empty where the logs show that it once held something."""
        topics = [self._topic, DECISIONS] if self._role is Role.CARD else [self._topic]
        async with self._looking:
            bounds = await asyncio.to_thread(bounds_of, self._kafka, topics, partition)
        decided = sum(each.end for each in bounds[1:])
        if bounds[0].begin > 0 or decided > 0:
            msg = (
                f"shard {self._role}{partition} is closed: it has no marker in the store, but"
                f" {decided} decisions were made from it and its log begins at {bounds[0].begin}."
                " The store lost its content: rebuild it, or begin with another"
                " FRAUD_REDIS_KEY_PREFIX and FRAUD_KAFKA_TOPIC_PREFIX"
            )
            raise ShardClosed(msg)
