"""The entity role: keyed rows into the states of shared entities, each counted once.

A shard keeps one high mark a source; what is not above it was counted before. Labels count by
their verdict: the first, or one that differs from the last known of its transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from aiokafka import ConsumerRecord
from google.protobuf.message import DecodeError

from fraudstream.batch_agent import Finished, Records
from fraudstream.features.codec import LABEL, TERMINAL, VERDICT, unpack_values
from fraudstream.features.kernel import advance_labels, advance_terminals
from fraudstream.features.state import LABEL_STATE, TERMINAL_STATE
from fraudstream.shard import ShardKeys
from fraudstream.shared_entities import HighMark, source_field
from fraudstream.state_store import STATE_LIFE_S, ShardWrite, StateStore, StoredValue
from fraudstream.v1.features_pb2 import EntityRow, EntityRowKind
from services.features.shard_loop import ShardLoop, ShardOwner

_LOG = logging.getLogger(__name__)

_FRAUD: Final = b"fraud"
_GENUINE: Final = b"genuine"
# Above every entity kind: a heartbeat says that all rows of its offset have come.
_WHOLE_OFFSET: Final = 255


def fresh_rows(
    rows: Sequence[EntityRow], stored: dict[bytes, bytes]
) -> tuple[list[EntityRow], dict[str, HighMark]]:
    """Return the rows above their source's mark, in order, and the marks after them.

    Args:
        rows: Rows of one entity shard, heartbeats included.
        stored: The shard's marks as they are stored.
    """
    marks = {name.decode(): HighMark.parse(mark) for name, mark in stored.items()}
    fresh = []
    for row in rows:
        field = source_field(row.source_topic_id, row.source_partition)
        mark = marks.get(field, HighMark(-1, 0, 0))
        is_beat = row.kind == EntityRowKind.ENTITY_ROW_KIND_HEARTBEAT
        kind = _WHOLE_OFFSET if is_beat else row.entity_kind
        is_above = (row.source_offset, kind) > (mark.offset, mark.kind)
        offset, kind = max((row.source_offset, kind), (mark.offset, mark.kind))
        marks[field] = HighMark(offset, kind, max(mark.time_ms, row.source_time_ms))
        if is_above and not is_beat:
            fresh.append(row)
    return fresh, marks


@dataclass(frozen=True, slots=True)
class _Lot:
    """Fresh rows of one shard by kind, and the keys of the entities that they touch."""

    transactions: list[EntityRow]
    labels: list[EntityRow]
    entities: list[str]

    @classmethod
    def of(cls, rows: Sequence[EntityRow]) -> _Lot:
        transaction = EntityRowKind.ENTITY_ROW_KIND_TRANSACTION
        return cls(
            [row for row in rows if row.kind == transaction],
            [row for row in rows if row.kind != transaction],
            list(dict.fromkeys(row.entity_key for row in rows)),
        )

    def keys(self, names: ShardKeys) -> list[str]:
        """Return what must be read: states, label states, verdicts."""
        return [
            *(names.state(TERMINAL, key) for key in self.entities),
            *(names.state(LABEL, key) for key in self.entities),
            *(names.state(VERDICT, row.identity.hex()) for row in self.labels),
        ]

    def advance(self, names: ShardKeys, values: Sequence[bytes | None]) -> list[StoredValue]:
        """Return the moved states and the known verdicts."""
        count = len(self.entities)
        place_of = {key: place for place, key in enumerate(self.entities)}
        terminals = unpack_values(values[:count], TERMINAL_STATE)
        labels = unpack_values(values[count : 2 * count], LABEL_STATE)
        verdicts = dict(
            zip([row.identity for row in self.labels], values[2 * count :], strict=True)
        )
        rows = self.transactions
        advance_terminals(
            terminals,
            _ints([place_of[row.entity_key] for row in rows]),
            _ints([row.event_time_ms for row in rows]),
            _ints([row.amount_reference_minor for row in rows]),
            _ints([row.transaction_kind for row in rows]),
        )
        advance_labels(
            labels,
            _ints([place_of[row.entity_key] for row in self.labels]),
            _ints([row.event_time_ms for row in self.labels]),
            _ints([fraud_change(verdicts, row) for row in self.labels]),
        )
        return [
            *_stored(names, TERMINAL, self.entities, terminals),
            *_stored(names, LABEL, self.entities, labels),
            *(
                StoredValue(names.state(VERDICT, identity.hex()), verdict, STATE_LIFE_S)
                for identity, verdict in verdicts.items()
                if verdict is not None
            ),
        ]


def fraud_change(verdicts: dict[bytes, bytes | None], row: EntityRow) -> int:
    """Return how a label moves the count of frauds, and keep its verdict."""
    before = verdicts[row.identity]
    verdicts[row.identity] = _FRAUD if row.is_fraud else _GENUINE
    return int(row.is_fraud) - int(before == _FRAUD)


def _stored(
    names: ShardKeys, kind: str, entities: Sequence[str], states: npt.NDArray[np.void]
) -> list[StoredValue]:
    return [
        StoredValue(names.state(kind, key), states[place].tobytes(), STATE_LIFE_S)
        for place, key in enumerate(entities)
    ]


def _ints(numbers: list[Any]) -> npt.NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


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
        _, stored = await self._store.read_many((), [names.marks])
        fresh, marks = fresh_rows([row for row in map(_decode, unread) if row], stored[0])
        lot = _Lot.of(fresh)
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
        return EntityRow.FromString(record.value or b"")
    except DecodeError:
        _LOG.error("entities row %d/%d is no EntityRow", record.partition, record.offset)
        return None
