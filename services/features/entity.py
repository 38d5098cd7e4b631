"""The entity role: keyed rows into the states of shared entities, each counted once.

A shard keeps one high mark a source; what is not above it was counted before. Labels count by
their verdict: the first, or one that differs from the last known of its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fraudstream.batch_agent import Finished, Records
from fraudstream.entity_log import (
    decode_entity_row,
    fresh_rows,
    is_label,
    pack_entity_rows,
    verdict_name,
)
from fraudstream.features.codec import ENTITY_OF_KIND, VERDICT, unpack_values
from fraudstream.features.shared_kernel import advance_shared
from fraudstream.features.state import SHARED_STATE
from fraudstream.shard import ShardKeys
from fraudstream.shared_entities import HighMark
from fraudstream.state_store import STATE_LIFE_S, ShardWrite, StateStore, StoredValue
from fraudstream.v1.features_pb2 import EntityRow
from services.features.shard_loop import ShardLoop, ShardOwner


@dataclass(frozen=True, slots=True)
class EntityLot:
    """Fresh rows of one shard, and the keys of the entities that they touch.

    Attributes:
        rows: In order.
        offsets: Offset of each row in the entities topic.
        entities: Kind and key of each entity.
    """

    rows: Sequence[EntityRow]
    offsets: Sequence[int]
    entities: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, EntityRow]]) -> EntityLot:
        """Return a lot of rows with their offsets."""
        return cls(
            [row for _, row in rows],
            [offset for offset, _ in rows],
            list(dict.fromkeys(_entity_of(row) for _, row in rows)),
        )

    def keys(self, names: ShardKeys) -> list[str]:
        """Return what must be read: states, then the verdicts of labelled transactions."""
        return [
            *(names.state(kind, key) for kind, key in self.entities),
            *(names.state(VERDICT, verdict_name(row)) for row in self.rows if is_label(row)),
        ]

    def advance(self, names: ShardKeys, values: Sequence[bytes | None]) -> list[StoredValue]:
        """Return the moved states and the known verdicts."""
        count = len(self.entities)
        place_of = {entity: place for place, entity in enumerate(self.entities)}
        states = unpack_values(values[:count], SHARED_STATE)
        labelled = [verdict_name(row) for row in self.rows if is_label(row)]
        verdicts = dict(zip(labelled, values[count:], strict=True))
        packed = pack_entity_rows(self.rows, self.offsets, verdicts)
        state_of = np.array([place_of[_entity_of(row)] for row in self.rows], np.int64)
        advance_shared(states, state_of, packed)
        return [
            *(
                StoredValue(names.state(kind, key), states[place].tobytes(), STATE_LIFE_S)
                for place, (kind, key) in enumerate(self.entities)
            ),
            *(
                StoredValue(names.state(VERDICT, name), verdict, STATE_LIFE_S)
                for name, verdict in verdicts.items()
                if verdict is not None
            ),
        ]


def _entity_of(row: EntityRow) -> tuple[str, str]:
    return ENTITY_OF_KIND[row.entity_kind].value, row.entity_key


class EntityRole:
    """Handles polls of the entities topic."""

    def __init__(self, store: StateStore, owner: ShardOwner) -> None:
        """Keep the parts."""
        self._store = store
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
        decoded = [(record.offset, decode_entity_row(record.value)) for record in unread]
        known = {name.decode(): HighMark.parse(mark) for name, mark in stored[0].items()}
        fresh, marks = fresh_rows([(at, row) for at, row in decoded if row], known)
        lot = EntityLot.of(fresh)
        values = await self._store.read_shard(shard, at, lot.keys(names))
        write = ShardWrite(
            from_offset=at,
            to_offset=to,
            values=lot.advance(names, values) if fresh else (),
            marks=[(field, mark.packed()) for field, mark in marks.items()],
        )
        await self._store.write_shard(shard, write)
        self._positions.moved(partition, to)
        return to
