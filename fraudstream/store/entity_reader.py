"""Read shared entities from their shards: closed buckets, known labels, and how far they got."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.features.catalogue import SHARED_ENTITIES
from fraudstream.features.entity_kernel import bucket_width_ms, read_shared
from fraudstream.features.state import SHARED_STATE
from fraudstream.features.stored_values import KIND_OF_ENTITY, EntityKeys, log_key, unpack_values
from fraudstream.store.shard import Role
from fraudstream.store.shard_markers import ShardMarkers
from fraudstream.store.shard_store import StateStore
from fraudstream.topics import partition_of, partitions_of, topic_id_of
from fraudstream.v1.decision_pb2 import Freshness

Floats = npt.NDArray[np.float32]
_WIDTHS_MS = tuple(bucket_width_ms(entity) for entity in SHARED_ENTITIES)
# As a mark of the time 0.
_UNHEARD_OF = b"0"
_LATEST_MS = (1 << 63) - 1
# A rebuild changes a generation once.
_MOST_LOOKS = 8
_KINDS = tuple(KIND_OF_ENTITY[entity] for entity in SHARED_ENTITIES)


def source_field(topic_id: bytes, partition: int) -> str:
    """Return the name of a source among an entity shard's high marks.

    >>> source_field(bytes([1]), 3)
    '01:3'
    """
    return f"{topic_id.hex()}:{partition}"


@dataclass(frozen=True, slots=True, order=True)
class HighMark:
    """How far an entity shard got with one source: rows not above it are known already.

    Attributes:
        offset: Offset in the source.
        kind: Number of the entity kind: one record may send several rows to one shard.
        time_ms: Time of the source's log up to there, epoch milliseconds.
    """

    offset: int
    kind: int
    time_ms: int

    def packed(self) -> str:
        """Return the mark as it is stored."""
        return f"{self.offset}:{self.kind}:{self.time_ms}"

    @classmethod
    def parse(cls, stored: bytes) -> HighMark:
        """Read a stored mark.

        >>> HighMark.parse(b"7:1:900")
        HighMark(offset=7, kind=1, time_ms=900)
        """
        offset, kind, time_ms = stored.split(b":")
        return cls(int(offset), int(kind), int(time_ms))


def watermark_of(marks: Mapping[bytes, bytes], incarnation: str) -> int:
    """Return the time up to which an entity shard knows every source; 0 while one is unheard of.

    Args:
        marks: The shard's high marks as they are stored.
        incarnation: Log whose partitions are the sources.

    >>> watermark_of({b"00:0": b"7:255:900"}, "00:1"), watermark_of({}, "00:1")
    (900, 0)
    """
    return min([_time_of(marks.get(field, _UNHEARD_OF)) for field in _source_fields(incarnation)])


def _time_of(mark: bytes) -> int:
    """Return the time of a mark; 0 for what features cannot have written."""
    try:
        time_ms = int(mark.rpartition(b":")[2])
    except ValueError:
        return 0
    return time_ms if 0 <= time_ms <= _LATEST_MS else 0


@lru_cache(maxsize=64)
def _source_fields(incarnation: str) -> tuple[bytes, ...]:
    """Return the names of all sources of a log among high marks."""
    topic_id, partitions = topic_id_of(incarnation), partitions_of(incarnation)
    return tuple(source_field(topic_id, p).encode() for p in range(partitions))


@dataclass(frozen=True, slots=True)
class SharedView:
    """What the shards of some entities said at one moment.

    Attributes:
        states: `SHARED_STATE` [n].
        partitions: Partition of the entities topic that feeds each of them, [n].
        watermarks_ms: Watermark of each state's shard, [n].
        indices: Where each key's state stands, by kind in the order of `SHARED_ENTITIES`.
        applied: Offset in the entities topic up to which each state stands, [n]; 0 for none.
    """

    states: npt.NDArray[np.void]
    partitions: Sequence[int]
    watermarks_ms: Sequence[int]
    indices: Sequence[Mapping[str, int]]
    applied: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        """Take the offsets out once: one at a time they cost a microsecond each."""
        object.__setattr__(self, "applied", self.states["applied"].tolist())

    def write_features(
        self, keys: Sequence[EntityKeys], rows: npt.NDArray[np.void], vectors: Floats
    ) -> None:
        """Write the features of shared entities into the vectors of rows.

        Args:
            keys: Keys of each row's shared entities.
            rows: `ROW` [B].
            vectors: float32 [B, F]; what an entity that a row lacks would fill is left alone.
        """
        state_of = [
            [found.get(key[number], -1) for key in keys]
            for number, found in enumerate(self.indices)
        ]
        read_shared(self.states, np.array(state_of, np.int64), rows, vectors)

    def write_freshness(self, keys: EntityKeys, event_time_ms: int, freshness: Freshness) -> None:
        """Write what a row read, the oldest watermark of it, and whether that is too old.

        A read is stale if a bucket that a feature needs was not closed yet.
        """
        reads, oldest_ms, is_stale = freshness.shared_reads, 0, False
        for number, key in enumerate(keys):
            index = self.indices[number].get(key)
            if index is None:
                continue
            width_ms, watermark_ms = _WIDTHS_MS[number], self.watermarks_ms[index]
            is_stale |= watermark_ms < event_time_ms // width_ms * width_ms
            oldest_ms = min(oldest_ms, watermark_ms) if oldest_ms else watermark_ms
            if self.applied[index]:
                reads.add(entity_kind=_KINDS[number], applied_offset=self.applied[index])
        freshness.shared_watermark_ms = oldest_ms
        freshness.shared_stale = is_stale


class EntityReader:
    """Reads entities of any shards in one round trip. A card's shard never waits for theirs.

    Args:
        store: The online store.
        partitions: Partitions of the entities topic.
    """

    def __init__(self, store: StateStore, partitions: int) -> None:
        self._store = store
        self._partitions = partitions
        self._markers = ShardMarkers(store, Role.ENTITY)

    async def read(self, rows: Collection[EntityKeys], incarnation: str) -> SharedView:
        """Return the states of rows' entities; `incarnation` names the log that feeds them.

        Where a shard moves to another generation meanwhile, all are read again.

        Raises:
            OnlineStoreUnavailable: The store does not answer in time, or a shard's generation
                changes at each look.
        """
        wanted = self._wanted(rows)
        for _ in range(_MOST_LOOKS):
            view = await self._read(wanted, incarnation)
            if view is not None:
                return view
        raise OnlineStoreUnavailable("a shard of entities changes its generation at each look")

    def _wanted(self, rows: Collection[EntityKeys]) -> list[dict[str, int]]:
        """Return the partition of each distinct key, by kind in the order of `SHARED_ENTITIES`."""
        return [
            {
                key: partition_of(log_key(entity, key), self._partitions)
                for key in sorted({row[number] for row in rows if row[number]})
            }
            for number, entity in enumerate(SHARED_ENTITIES)
        ]

    async def _read(
        self, wanted: Sequence[Mapping[str, int]], incarnation: str
    ) -> SharedView | None:
        """Read once; None where a shard was not in the generation that its marker had named."""
        partitions = sorted({partition for found in wanted for partition in found.values()})
        shards = await self._markers.shards(partitions)
        names = {partition: self._store.keys(shard) for partition, shard in shards.items()}
        of_kinds = zip(SHARED_ENTITIES, wanted, strict=True)
        states, marks, markers = await self._store.read_many(
            [names[p].state(entity, k) for entity, found in of_kinds for k, p in found.items()],
            [names[partition].marks for partition in partitions],
            [self._markers.marker_key(partition) for partition in partitions],
        )
        changed = [
            self._markers.has_changed(partition, marker)
            for partition, marker in zip(partitions, markers, strict=True)
        ]
        if any(changed):
            return None
        progress = {
            partition: watermark_of(mark, incarnation)
            for partition, mark in zip(partitions, marks, strict=True)
        }
        indices, count = [], 0
        for found in wanted:
            indices.append({key: count + index for index, key in enumerate(found)})
            count += len(found)
        shards_of = [partition for found in wanted for partition in found.values()]
        return SharedView(
            unpack_values(states, SHARED_STATE),
            shards_of,
            [progress[partition] for partition in shards_of],
            indices,
        )
