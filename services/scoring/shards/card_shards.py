"""Which shard a card is in, and what scoring believes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from fraudstream.errors import FraudStreamError, ShardClosed
from fraudstream.store.shard import Marker, Role, ShardRef, never_opened
from fraudstream.store.shard_store import StateStore
from fraudstream.topics import partition_of, partitions_of

R = TypeVar("R")
A = TypeVar("A")
ShardWork = Callable[
    [Sequence[tuple[ShardRef, Sequence[R]]]], Awaitable[Sequence[Sequence[A] | FraudStreamError]]
]


class CardShards:
    """The card shards of this deployment.

    A shard's log and generation are read from its marker once and kept: every script compares them
    with the marker again, so what is old is refused, then forgotten and read again.
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

    async def work_on(
        self, partitions: Sequence[int], rows: Sequence[R], work: ShardWork[R, A]
    ) -> list[A | FraudStreamError]:
        """Work on rows of some shards, all at once; those of a shard in their order.

        Once more on shards whose markers name another generation than was known: a script that says
        *closed* did nothing, so it is safe to run it again.

        Args:
            partitions: Of each row's shard.
            rows: What to work on.
            work: Returns the answers to each shard's rows, or its error.

        Returns:
            The answer to each row, or its shard's error: `ShardClosed` where there is no marker, or
            one that the work does not pass, `OnlineStoreUnavailable` where the store does not
            answer.
        """
        indices: dict[int, list[int]] = {}
        for index, partition in enumerate(partitions):
            indices.setdefault(partition, []).append(index)
        batches = {
            partition: [rows[index] for index in batch] for partition, batch in indices.items()
        }
        answers: dict[int, A | FraudStreamError] = {}
        for partition, found in (await self._work_on_batches(batches, work)).items():
            for number, index in enumerate(indices[partition]):
                answers[index] = found if isinstance(found, FraudStreamError) else found[number]
        return [answers[index] for index in range(len(rows))]

    async def _work_on_batches(
        self, batches: Mapping[int, Sequence[R]], work: ShardWork[R, A]
    ) -> dict[int, Sequence[A] | FraudStreamError]:
        found: dict[int, Sequence[A] | FraudStreamError] = {}
        shards = await self._open(batches, found)
        found |= await _work(shards, batches, work)
        closed = [p for p in shards if isinstance(found[p], ShardClosed)]
        if closed:
            for partition in closed:
                self.forget(partition)
            named = await self._open(closed, found)
            for partition in [p for p, shard in named.items() if shard == shards[p]]:
                del named[partition]
                self.forget(partition)
            found |= await _work(named, batches, work)
        return found

    async def _open(
        self, partitions: Iterable[int], found: dict[int, Sequence[A] | FraudStreamError]
    ) -> dict[int, ShardRef]:
        """Return shards as their markers name them; an error goes into `found`."""
        shards: dict[int, ShardRef] = {}
        for partition in partitions:
            try:
                shards[partition] = await self.open_shard(partition)
            except FraudStreamError as exc:
                found[partition] = exc
        return shards

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


async def _work(
    shards: Mapping[int, ShardRef], batches: Mapping[int, Sequence[R]], work: ShardWork[R, A]
) -> dict[int, Sequence[A] | FraudStreamError]:
    if not shards:
        return {}
    answers = await work([(shard, batches[partition]) for partition, shard in shards.items()])
    return dict(zip(shards, answers, strict=True))


def _shard_of(partition: int, marker: Marker | None, partitions: int) -> ShardRef:
    if marker is None:
        raise never_opened(Role.CARD, partition)
    shard = marker.shard(Role.CARD, partition)
    if partitions_of(shard.incarnation) != partitions:
        msg = (
            f"shard {partition} follows log {marker.incarnation}, which has not {partitions} parts"
        )
        raise ShardClosed(msg)
    return shard
