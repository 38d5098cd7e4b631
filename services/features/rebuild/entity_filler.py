"""Fill a generation of an entity shard: a pure function of its log, by the code of the stream.

Memory: the values of all entities of the shard, about 1.2 KB for a terminal with its labels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fraudstream.broker.log_reader import ReadChunks
from fraudstream.store.entity_reader import HighMark
from fraudstream.store.entity_rows import decode_entity_rows, fresh_rows
from fraudstream.store.generations import Generations
from fraudstream.store.shard import ShardKeys
from fraudstream.store.shard_store import STATE_LIFE_S, StateStore, StoredValue
from fraudstream.topics import ENTITIES, partition_of
from services.features.rebuild.job import Filled, Job
from services.features.rows.entity_batch import EntityBatch
from services.features.shards.source_ends import Reached, RowAt


@dataclass(slots=True)
class _Replay:
    """A replay under way: the values so far, and the marks of the partition that is read."""

    job: Job
    names: ShardKeys
    values: dict[str, bytes] = field(default_factory=dict)
    marks: dict[str, HighMark] = field(default_factory=dict)

    def advance(self, rows: Sequence[RowAt]) -> None:
        """Move the values on by rows, as the entity role does by a poll."""
        placed = [(record.offset, row) for record, row in rows]
        fresh, self.marks = fresh_rows(placed, self.marks)
        if fresh:
            entities = EntityBatch.of(fresh)
            before = [self.values.get(key) for key in entities.keys(self.names)]
            for value in entities.advance(self.names, before):
                self.values[value.key] = value.content

    def is_here(self, record: Any) -> bool:
        """Return whether a record of another partition belongs to this shard now."""
        partition = partition_of(record.key or b"", self.job.log.partitions)
        return partition == self.job.shard.partition

    def stored(self) -> Iterator[StoredValue]:
        """Yield all values."""
        for key, content in self.values.items():
            yield StoredValue(key, content, STATE_LIFE_S)


class EntityFiller:
    """Fills generations of entity shards.

    Args:
        store: The online store.
        chunks: Reads the log.
        reached: Leaves out what claims more than its source has.
    """

    def __init__(self, store: StateStore, chunks: ReadChunks, reached: Reached) -> None:
        self._reached = reached
        self._store = store
        self._generations = Generations(store)
        self._chunks = chunks

    async def fill(self, job: Job) -> Filled:
        """Replay the log to the end that it has now."""
        replay = _Replay(job, self._store.keys(job.shard))
        for partition in job.other_partitions:
            async for chunk in self._chunks(ENTITIES, partition):
                here = [record for record in chunk if replay.is_here(record)]
                await self._take(replay, here, len(chunk))
            # Its marks compare rows of one partition only.
            replay.marks = {}
        next_offset = job.begin
        async for chunk in self._chunks(ENTITIES, job.shard.partition):
            await self._take(replay, chunk, len(chunk))
            next_offset = int(chunk[-1].offset) + 1
        states = await self._generations.fill(replay.stored())
        marks = [(name, mark.packed()) for name, mark in replay.marks.items()]
        await self._generations.fill_marks(job.shard, marks)
        old = replay.names.state("", "").removesuffix(":")
        rests = [key.removeprefix(old) for key in replay.values]
        return Filled(
            job, next_offset, states, lambda n: (n.marks, *(_renamed(n, rest) for rest in rests))
        )

    async def _take(self, replay: _Replay, records: Sequence[Any], read: int) -> None:
        replay.job.progress.add(read)
        rows = await self._reached(await asyncio.to_thread(decode_entity_rows, records))
        await asyncio.to_thread(replay.advance, rows)


def _renamed(names: ShardKeys, rest: str) -> str:
    """Return the name of a value in another generation."""
    kind, _, entity_key = rest.partition(":")
    return names.state(kind, entity_key)
