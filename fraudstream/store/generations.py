"""Fill a new generation of a shard beside the one that is served, then point the marker at it.

Only states, claims and marks belong to a generation; decision records, outbox and pending lists do
not. Until the switch nobody reads what is filled, so each step may be repeated.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.store.connection import Argument, Command
from fraudstream.store.shard import Marker, ShardRef
from fraudstream.store.shard_store import StateStore, StoredValue

T = TypeVar("T")

# 256 card states are 600 KB: an answer well within a time-out of a second.
CHUNK: Final = 256
_WAITS_S: Final = (0.2, 0.5, 1.0, 2.0, 4.0)


class Switch(StrEnum):
    """What became of a switch."""

    SWITCHED = "switched"
    LOST = "lost"
    OTHER = "other"


def name_generation(now_ms: int) -> str:
    """Return a name that no generation ever had.

    >>> name_generation(5) == name_generation(5)
    False
    """
    return f"g{now_ms}-{secrets.token_hex(4)}"


def begun_ms_of(generation: str) -> int:
    """Return when a generation was begun, 0 for the first one of a shard.

    >>> begun_ms_of(name_generation(5))
    5
    """
    return int(generation[1:].partition("-")[0]) if "-" in generation else 0


class Generations:
    """Writes generations that nobody reads yet.

    Raises:
        OnlineStoreUnavailable: The store did not answer over several attempts (every method).
    """

    def __init__(self, store: StateStore) -> None:
        """Keep the store."""
        self._store = store
        self._nodes = store.nodes

    async def begin(self, shard: ShardRef, now_ms: int) -> ShardRef:
        """Return a shard's new generation, with a witness of what becomes of its filling."""
        begun = replace(shard, generation=name_generation(now_ms))
        await self._patient(partial(self._store.leave_witness, self._store.keys(begun).witness))
        return begun

    async def fill(self, values: Iterable[StoredValue]) -> int:
        """Write states and claims of one shard, in chunks; return how many there were."""
        return await self._fill(values, "")

    async def restore(self, records: Iterable[StoredValue]) -> int:
        """Write decision records of one shard; return how many there were.

        One that is there stays, and lives for as long as it would if it was written now.
        """
        return await self._fill(records, "NX")

    async def fill_marks(self, shard: ShardRef, marks: Sequence[tuple[str, str]]) -> None:
        """Write the high marks of an entity shard."""
        fields: list[Argument] = [part for mark in marks for part in mark]
        if fields:
            await self._write([("HSET", self._store.keys(shard).marks, *fields)])

    async def fill_outbox(self, shard: ShardRef, identities: Iterable[bytes]) -> None:
        """Put recorded decisions into the shard's outbox: a scorer publishes them at once."""
        outbox = self._store.keys(shard).outbox
        await self._write(("ZADD", outbox, 0, identity) for identity in identities)

    async def drop_pending(
        self, shard: ShardRef, cards: Sequence[str], finished: Sequence[bytes]
    ) -> None:
        """Take rows that the generation holds out of their cards' pending lists.

        Args:
            shard: The shard.
            cards: Tokens of their cards.
            finished: Identity and digest (48 bytes) of each row.
        """
        names = self._store.keys(shard)
        keys = [names.pending(card) for card in cards]
        if keys:
            await self._patient(lambda: self._nodes.run("drop_pending", keys, finished))

    async def switch(self, read: Marker | None, shard: ShardRef, next_offset: int) -> Switch:
        """Point the marker at a filled generation.

        Args:
            read: The marker before the filling, None where there was none.
            shard: The filled generation.
            next_offset: First offset that it does not hold.

        Returns:
            `LOST` where the store lost some of the filling; `OTHER` where the marker is not the one
            that was read any more. Neither changes anything.
        """
        names = self._store.keys(shard)
        named = ("", "", "", "")
        if read is not None:
            named = (read.incarnation, read.layout, read.generation, read.primary)
        arguments: list[Argument] = [
            *named,
            shard.incarnation,
            shard.layout,
            shard.generation,
            next_offset,
        ]
        answer = await self._nodes.run(
            "switch_generation", [names.marker, names.witness, names.loss], arguments
        )
        return Switch(answer.decode())

    async def drop(self, keys: Iterable[str]) -> int:
        """Free what an earlier generation held; return how many keys there were."""
        return await self._write(("UNLINK", key) for key in keys)

    async def _fill(self, values: Iterable[StoredValue], mode: str) -> int:
        """Write values by one script a chunk: a fifth of what a command a value costs."""
        rest, written = iter(values), 0
        while chunk := list(islice(rest, CHUNK)):
            arguments: list[Argument] = [mode]
            for value in chunk:
                arguments += (value.content, value.life_s)
            keys = [value.key for value in chunk]
            await self._patient(partial(self._nodes.run, "fill_values", keys, arguments))
            written += len(chunk)
        return written

    async def _write(self, commands: Iterable[Command]) -> int:
        rest, written = iter(commands), 0
        while chunk := list(islice(rest, CHUNK)):
            await self._patient(partial(self._nodes.pipeline, chunk))
            written += len(chunk)
        return written

    async def _patient(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what may be repeated until the store answers, a few times."""
        for wait_s in _WAITS_S:
            try:
                return await work()
            except OnlineStoreUnavailable:
                await asyncio.sleep(wait_s)
        return await work()


def earlier_generation(shard: ShardRef, read: Marker | None) -> ShardRef | None:
    """Return the generation that a marker named before a switch, None for none.

    >>> earlier_generation(ShardRef("p", 0, "00:1"), None) is None
    True
    """
    if read is None:
        return None
    return replace(
        shard, incarnation=read.incarnation, layout=read.layout, generation=read.generation
    )
