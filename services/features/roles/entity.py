"""The entity role: keyed rows into the states of shared entities, each counted once.

A shard keeps one high mark a source; what is not above it was counted before. Labels count by
what they say: the first, or one that differs from the last known of its transaction.
"""

from __future__ import annotations

from fraudstream.broker.batch_agent import Finished, Records
from fraudstream.store.entity_reader import HighMark
from fraudstream.store.entity_rows import decode_entity_rows, fresh_rows
from fraudstream.store.shard_store import ShardWrite, StateStore
from services.features.roles.shard_loop import ShardLoop, ShardOwner
from services.features.rows.entity_batch import EntityBatch
from services.features.shards.source_ends import Reached


class EntityRole:
    """Handles polls of the entities topic."""

    def __init__(self, store: StateStore, owner: ShardOwner, reached: Reached) -> None:
        """Keep the parts."""
        self._store = store
        self._reached = reached
        self._positions = owner.positions
        self._shards = ShardLoop(owner, self._work)

    def assigned(self, partitions: set[int]) -> None:
        """Forget every position."""
        self._shards.assigned(partitions)

    async def handle(self, records: Records) -> Finished:
        """Take every shard further."""
        return await self._shards.handle(records)

    async def _work(self, partition: int, at: int, records: Records) -> int:
        """Take one shard from `at` to the end of its records."""
        unread = self._positions.rows_from(partition, at, records[partition])
        if not unread:
            return at
        to: int = unread[-1].offset + 1
        shard = self._positions.shard(partition)
        names = self._store.keys(shard)
        _, stored, _ = await self._store.read_many((), [names.marks])
        rows = await self._reached(decode_entity_rows(unread))
        known = {name.decode(): HighMark.parse(mark) for name, mark in stored[0].items()}
        fresh, marks = fresh_rows([(record.offset, row) for record, row in rows], known)
        chunk = EntityBatch.of(fresh)
        values = await self._store.read_shard(shard, at, chunk.keys(names))
        write = ShardWrite(
            from_offset=at,
            to_offset=to,
            values=chunk.advance(names, values) if fresh else (),
            marks=[(field, mark.packed()) for field, mark in marks.items()],
        )
        await self._store.write_shard(shard, write)
        self._positions.moved(partition, to)
        return to
