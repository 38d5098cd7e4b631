"""The entity role: keyed rows into the states of shared entities, each counted once.

A shard keeps one high mark a source; what is not above it was counted before. Labels count by
their verdict: the first, or one that differs from the last known of its transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from aiokafka import ConsumerRecord
from google.protobuf.message import DecodeError

from fraudstream.batch_agent import Finished, Records
from fraudstream.features.codec import ENTITY_OF_KIND, VERDICT, unpack_values
from fraudstream.features.shared_kernel import advance_shared
from fraudstream.features.state import SHARED_ROW, SHARED_STATE
from fraudstream.shard import ShardKeys
from fraudstream.shared_entities import HighMark, source_field
from fraudstream.state_store import STATE_LIFE_S, ShardWrite, StateStore, StoredValue
from fraudstream.v1.features_pb2 import EntityRow, EntityRowKind
from services.features.positions import Positions
from services.features.shard_loop import ShardLoop

_LOG = logging.getLogger(__name__)

_FRAUD: Final = b"fraud"
_GENUINE: Final = b"genuine"
# Above every entity kind: a heartbeat says that all rows of its offset have come.
_WHOLE_OFFSET: Final = 255


def fresh_rows(
    rows: Sequence[tuple[int, EntityRow]], stored: dict[bytes, bytes]
) -> tuple[list[tuple[int, EntityRow]], dict[str, HighMark]]:
    """Return the rows above their source's mark, in order, and the marks after them.

    Args:
        rows: Rows of one entity shard with their offsets, heartbeats included.
        stored: The shard's marks as they are stored.
    """
    marks = {name.decode(): HighMark.parse(mark) for name, mark in stored.items()}
    fresh = []
    for at, row in rows:
        field = source_field(row.source_topic_id, row.source_partition)
        mark = marks.get(field, HighMark(-1, 0, 0))
        is_beat = row.kind == EntityRowKind.ENTITY_ROW_KIND_HEARTBEAT
        kind = _WHOLE_OFFSET if is_beat else row.entity_kind
        is_above = (row.source_offset, kind) > (mark.offset, mark.kind)
        offset, kind = max((row.source_offset, kind), (mark.offset, mark.kind))
        marks[field] = HighMark(offset, kind, max(mark.time_ms, row.source_time_ms))
        if is_above and not is_beat:
            fresh.append((at, row))
    return fresh, marks


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
            *(names.state(VERDICT, _verdict_of(row)) for row in self.rows if _is_label(row)),
        ]

    def advance(self, names: ShardKeys, values: Sequence[bytes | None]) -> list[StoredValue]:
        """Return the moved states and the known verdicts."""
        count = len(self.entities)
        place_of = {entity: place for place, entity in enumerate(self.entities)}
        states = unpack_values(values[:count], SHARED_STATE)
        labelled = [_verdict_of(row) for row in self.rows if _is_label(row)]
        verdicts = dict(zip(labelled, values[count:], strict=True))
        packed = np.zeros(len(self.rows), SHARED_ROW)
        for place, row in enumerate(self.rows):
            packed[place] = (
                row.event_time_ms,
                row.amount_reference_minor,
                self.offsets[place] + 1,
                row.transaction_kind,
                row.is_unusual,
                fraud_change(verdicts, row) if _is_label(row) else 0,
            )
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


def fraud_change(verdicts: dict[str, bytes | None], row: EntityRow) -> int:
    """Return how a label moves the count of frauds, and keep its verdict.

    A label that comes again changes nothing; one that flips takes the first back.
    """
    name = _verdict_of(row)
    before = verdicts[name]
    verdicts[name] = _FRAUD if row.is_fraud else _GENUINE
    return int(row.is_fraud) - int(before == _FRAUD)


def _entity_of(row: EntityRow) -> tuple[str, str]:
    return ENTITY_OF_KIND[row.entity_kind].value, row.entity_key


def _is_label(row: EntityRow) -> bool:
    return row.kind == EntityRowKind.ENTITY_ROW_KIND_LABEL


def _verdict_of(row: EntityRow) -> str:
    """Return the name of a verdict: two entities of one transaction may share a shard."""
    return f"{row.entity_kind}:{row.identity.hex()}"


class EntityRole:
    """Handles polls of the entities topic."""

    def __init__(self, store: StateStore, positions: Positions) -> None:
        """Keep the parts."""
        self._store = store
        self._positions = positions
        self._shards = ShardLoop(positions, self._work)

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
        _, stored = await self._store.read_many((), [names.marks])
        decoded = [(record.offset, _decode(record)) for record in unread]
        fresh, marks = fresh_rows([(at, row) for at, row in decoded if row], stored[0])
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


def _decode(record: ConsumerRecord) -> EntityRow | None:
    """Decode a row; only features writes this topic, so other bytes are logged and skipped."""
    try:
        row = EntityRow.FromString(record.value or b"")
    except DecodeError:
        row = EntityRow()
    is_beat = row.kind == EntityRowKind.ENTITY_ROW_KIND_HEARTBEAT
    if row.kind == 0 or not (is_beat or row.entity_kind in ENTITY_OF_KIND):
        _LOG.error("entities row %d/%d is no EntityRow", record.partition, record.offset)
        return None
    return row
