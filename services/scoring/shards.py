"""Which shard a card is in, and what scoring believes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fraudstream.errors import ShardClosed
from fraudstream.features.state import LAYOUT_HASH
from fraudstream.shard import Marker, Role, ShardRef
from fraudstream.state_store import StateStore
from fraudstream.topics import partition_of

T = TypeVar("T")


class CardShards:
    """The card shards of this deployment.

    A shard's log and generation are read from its marker once and kept: every script compares them
    with the marker again, so what is old is refused, then forgotten and read anew.
    """

    def __init__(self, store: StateStore, partitions: int) -> None:
        self._store = store
        self._known: dict[int, ShardRef] = {}
        self.partitions = partitions

    def partition_of(self, card_token: str) -> int:
        """Return the partition of a card."""
        return partition_of(card_token.encode(), self.partitions)

    async def open_shard(self, partition: int) -> ShardRef:
        """Return a shard as its marker names it.

        Raises:
            ShardClosed: There is no marker, or one of another layout or partition count.
            OnlineStoreUnavailable: The store does not answer.
        """
        known = self._known.get(partition)
        if known is None:
            marker = await self._store.marker(ShardRef(Role.CARD, partition, ""))
            known = self._known[partition] = _shard_of(partition, marker, self.partitions)
        return known

    async def work_on(self, partition: int, work: Callable[[ShardRef], Awaitable[T]]) -> T:
        """Work on a shard; once more, where its marker names another generation than was known.

        A script that says *closed* did nothing, so it is safe to run it again.

        Raises:
            ShardClosed: There is no marker, or one that the work does not pass.
            OnlineStoreUnavailable: The store does not answer.
        """
        shard = await self.open_shard(partition)
        try:
            return await work(shard)
        except ShardClosed:
            self.forget(partition)
            if await self.open_shard(partition) == shard:
                self.forget(partition)
                raise
        return await work(await self.open_shard(partition))

    async def any_open(self) -> ShardRef:
        """Return any one of the shards: all of them follow the same log.

        Raises:
            ShardClosed: None is open.
            OnlineStoreUnavailable: The store does not answer.
        """
        for partition in range(self.partitions):
            try:
                return await self.open_shard(partition)
            except ShardClosed:
                continue
        msg = f"none of {self.partitions} card shards is open"
        raise ShardClosed(msg)

    def forget(self, partition: int) -> None:
        """Read the marker again at the next call, after a script said that it is another."""
        self._known.pop(partition, None)


async def all_shards(works: Sequence[Coroutine[Any, Any, T]]) -> Sequence[T]:
    """Return what works on several shards return; all at once.

    One alone needs no task of its own, which costs as much as half of the work.
    """
    if len(works) == 1:
        return [await works[0]]
    return await asyncio.gather(*works)


def _shard_of(partition: int, marker: Marker | None, partitions: int) -> ShardRef:
    if marker is None:
        msg = f"shard {partition} is closed: no features worker has opened it"
        raise ShardClosed(msg)
    if marker.layout != LAYOUT_HASH:
        msg = f"shard {partition} is closed: layout {marker.layout}, expected {LAYOUT_HASH}"
        raise ShardClosed(msg)
    if not marker.incarnation.endswith(f":{partitions}"):
        msg = (
            f"shard {partition} follows log {marker.incarnation}, which has not {partitions} parts"
        )
        raise ShardClosed(msg)
    return ShardRef(Role.CARD, partition, marker.incarnation, marker.generation)
