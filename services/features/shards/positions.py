"""Where this worker stands in each shard: taken from the marker, forgotten whenever in doubt.

A card shard with a row that has waited for over 47 hours is opened as after a loss, for the records
of decisions on its unread rows may be gone: see `Positions.refuse_if_stood_still`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from aiokafka import ConsumerRecord

from fraudstream.broker.log_reader import Bounds, bounds_of
from fraudstream.broker.topic_info import Log, find_log
from fraudstream.errors import LogReplaced
from fraudstream.settings import KafkaSettings
from fraudstream.store.generations import begun_ms_of
from fraudstream.store.shard import FIRST_GENERATION, Marker, Role, ShardRef
from fraudstream.store.shard_store import OUTAGE_LONGEST_S, StateStore
from fraudstream.topics import DECISIONS, Topic
from services.features.shards.loss import LossReason, ShardLost, loss_of

_LOG = logging.getLogger(__name__)

# A shard that failed is left alone so long before its marker is read again.
RETRY_S: Final = 0.2

Seek = Callable[[int, int], None]
Highwater = Callable[[int], int | None]


class Positions:
    """Positions of the assigned shards of one log.

    The marker in the store is the position, and names the generation that it counts for; what Kafka
    has committed only saves reading again.

    Args:
        store: Where the markers are.
        kafka: Where the logs are.
        role: Cards or entities.
        topic: The topic that the shards follow.
        log: The same as it was at the start of this worker.

    Attributes:
        seek: Has the worker read on at an offset.
        highwater: Tells where a partition ends.
        clock_ms: Epoch milliseconds, for shards whose decision records age by it; None for none.
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
        self._shards: dict[int, ShardRef] = {}
        self._sought: set[int] = set()
        self._just_read: set[int] = set()
        self._looking = asyncio.Lock()
        self.seek: Seek = lambda _partition, _offset: None
        self.highwater: Highwater = lambda _partition: None
        self.clock_ms: Callable[[], int] | None = None

    @property
    def partitions(self) -> int:
        """How many partitions the log had at the start of this worker."""
        return self._log.partitions

    def shard(self, partition: int) -> ShardRef:
        """Return the shard of a partition, in the generation that its marker named last."""
        return self._shards.get(partition) or ShardRef(self._role, partition, self._log.incarnation)

    def forget_all(self) -> None:
        """Forget every position: the assignment is another."""
        self._known.clear()
        self._sought.clear()
        self._just_read.clear()

    def forget(self, partition: int) -> None:
        """Forget one position: a script was refused, or its outcome is unknown."""
        self._known.pop(partition, None)
        self._sought.discard(partition)

    def moved(self, partition: int, offset: int) -> None:
        """Take note that a write moved the marker to `offset`."""
        self._known[partition] = offset
        self._sought.discard(partition)

    async def position(self, partition: int) -> int:
        """Return where a shard stands, read from its marker where it is not known.

        Raises:
            ShardLost: The shard must be rebuilt.
            LogReplaced: The topic is another than at the start of this worker.
            FeatureSpecMismatch: Another release's layout is served.
            OnlineStoreUnavailable: The store does not answer.
        """
        known = self._known.get(partition)
        if known is None:
            known = await self._read_marker(partition)
            self._known[partition] = known
            self._just_read.add(partition)
        return known

    async def check(self, partition: int) -> None:
        """Compare an idle shard's marker with what this worker believes, and read on there.

        Raises:
            ShardClosed: It is another.
            ShardLost: The log lost what the marker says was applied.
            ShardMoved: Another worker moved it.
        """
        at = await self.position(partition)
        await self._store.read_shard(self.shard(partition), at, ())
        self._refuse_if_cut(partition, at)
        if partition in self._just_read:
            self._just_read.discard(partition)
            self.seek(partition, at)

    def is_behind(self, partition: int, offset: int) -> bool:
        """Return whether the log holds records at `offset` or beyond, or nobody knows."""
        end = self.highwater(partition)
        return end is None or end > offset

    def rows_from(
        self, partition: int, at: int, records: Sequence[ConsumerRecord]
    ) -> Sequence[ConsumerRecord]:
        """Return the records that are not applied yet; seek, and return none, where some lack.

        A hole that is still there after seeking is a hole in the log, and is stepped over.

        Raises:
            ShardLost: The log lost what the marker says was applied.
        """
        self._refuse_if_cut(partition, at)
        self._just_read.discard(partition)
        fresh = [record for record in records if record.offset >= at]
        if fresh and fresh[0].offset > at and partition not in self._sought:
            self._sought.add(partition)
            self.seek(partition, at)
            return ()
        return fresh

    def refuse_if_stood_still(self, partition: int, waits_since_ms: int) -> None:
        """Refuse to decide rows that may have been decided, with records that are gone.

        A stop of this stream or of ingest is seen at the first batch after it, and so is the lag of
        a worker that runs. A rebuild counts the lives of records and claims from when the shard
        stood still (`first_decisions`): for as long again its old rows are not too old, whichever
        worker reads them. Not covered: a log that was cut as well, for nobody knows where it stood
        still.

        Args:
            partition: The shard's partition.
            waits_since_ms: When the log took the batch's oldest row (`waits_since_ms` of `rows`):
                by the broker's clock or ingest's, so that no sender can close a shard.

        Raises:
            ShardLost: A row waited for so long that records of the shard's decisions may be gone.
        """
        if self.clock_ms is None:
            return
        shard = self.shard(partition)
        since_ms = max(waits_since_ms, begun_ms_of(shard.generation))
        if self.clock_ms() - since_ms > OUTAGE_LONGEST_S * 1000:
            raise ShardLost(shard, LossReason.STOOD_STILL)

    async def refuse_if_outdated(self) -> None:
        """Refuse to go on where the topic is not as it was at the start of this worker.

        Raises:
            LogReplaced: It was made again or given more partitions: only a new start helps.
        """
        async with self._looking:
            log = await asyncio.to_thread(find_log, self._kafka, self._topic)
        if log != self._log:
            msg = (
                f"topic {log.name} is {log.incarnation} now, and was {self._log.incarnation} when"
                " this worker started: it starts again"
            )
            raise LogReplaced(msg)

    async def _read_marker(self, partition: int) -> int:
        """Adopt the generation that the marker names, and return its `next`.

        A shard without marker is opened if the logs show that it never held anything. The witness
        holds off a worker that looked at them, stood still, and goes on after the shard was opened
        by another and lost with its decisions in the log.
        """
        own = ShardRef(self._role, partition, self._log.incarnation, FIRST_GENERATION)
        marker = await self._store.marker(own)
        if marker is None:
            witness = await self._store.begin_opening(own)
            await self._refuse_if_read_before(own)
            marker = await self._store.open_shard(own, 0, witness)
            _LOG.info("opened shard %s%d, which was never opened before", own.role, partition)
        reason = loss_of(own, marker)
        if reason in (LossReason.LOG_MADE_ANEW, LossReason.LOG_WIDENED):
            await self.refuse_if_outdated()
        if reason is not None:
            raise ShardLost(own, reason)
        self._shards[partition] = replace(own, generation=marker.generation)
        return marker.next_offset

    def _refuse_if_cut(self, partition: int, at: int) -> None:
        """Refuse to go on where the log ends below the marker: its new rows would be skipped."""
        # The embedded broker may name the begin of its last batch as its end, and is never cut.
        end = None if self._kafka.is_embedded else self.highwater(partition)
        if end is not None and end < at:
            raise ShardLost(self.shard(partition), LossReason.LOG_CUT)

    async def _refuse_if_read_before(self, shard: ShardRef) -> None:
        """Refuse to open a shard empty where logs or other shards show that it held something."""
        topics = [self._topic, DECISIONS] if self._role is Role.CARD else [self._topic]
        bounds = await self._bounds(topics, shard.partition)
        if bounds[0].begin > 0 or sum(each.end for each in bounds[1:]) > 0:
            raise ShardLost(shard, LossReason.STORE_EMPTY)
        if any(_is_of_another_past(shard, marker) for marker in await self._markers()):
            raise ShardLost(shard, LossReason.LOG_WIDENED)

    async def _bounds(self, topics: Sequence[Topic], partition: int) -> list[Bounds]:
        async with self._looking:
            return await asyncio.to_thread(bounds_of, self._kafka, topics, partition)

    async def _markers(self) -> list[Marker]:
        """Return the markers of all shards of this log."""
        shards = [
            ShardRef(self._role, p, self._log.incarnation) for p in range(self._log.partitions)
        ]
        found = await asyncio.gather(*(self._store.marker(shard) for shard in shards))
        return [marker for marker in found if marker is not None]


def _is_of_another_past(shard: ShardRef, marker: Marker) -> bool:
    """Return whether another shard's marker says that this one's keys once lay elsewhere."""
    return marker.incarnation != shard.incarnation or marker.generation != FIRST_GENERATION
