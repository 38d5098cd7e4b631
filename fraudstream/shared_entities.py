"""Read shared entities from their shards: closed buckets, known labels, and how far they got."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.features.codec import LABEL, TERMINAL, log_key, unpack_values
from fraudstream.features.state import LABEL_STATE, MINUTE_MS, TERMINAL_STATE
from fraudstream.shard import Role, ShardKeys, ShardRef, topic_id_of
from fraudstream.state_store import StateStore
from fraudstream.topics import partition_of


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
    topic_id, partitions = topic_id_of(incarnation), int(incarnation.rpartition(":")[2])
    found = [marks.get(source_field(topic_id, p).encode()) for p in range(partitions)]
    return min(0 if mark is None else HighMark.parse(mark).time_ms for mark in found)


@dataclass(frozen=True, slots=True)
class SharedView:
    """What the shards of some terminals said at one moment.

    Attributes:
        terminals: `TERMINAL_STATE` [n].
        labels: `LABEL_STATE` [n].
        places: Where each terminal key stands in both.
        watermarks_ms: Watermark of each terminal key's shard.
    """

    terminals: npt.NDArray[np.void]
    labels: npt.NDArray[np.void]
    places: Mapping[str, int]
    watermarks_ms: Mapping[str, int]

    def places_of(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the place of each key, -1 for the empty one: int64 [B]."""
        return np.array([self.places.get(key, -1) for key in keys], dtype=np.int64)

    def is_stale(self, key: str, event_time_ms: int) -> bool:
        """Tell whether a row needs a bucket that the terminal's shard has not closed yet."""
        needed_ms = event_time_ms // MINUTE_MS * MINUTE_MS
        return key in self.watermarks_ms and self.watermarks_ms[key] < needed_ms


class EntityReader:
    """Reads terminals of any shards in one round trip. A card's shard never waits for theirs.

    Args:
        store: The online store.
        partitions: Partitions of the entities topic.
    """

    def __init__(self, store: StateStore, partitions: int) -> None:
        self._store = store
        self._partitions = partitions

    async def read(self, keys: Collection[str], incarnation: str) -> SharedView:
        """Return the states of terminals; `incarnation` names the log that feeds them.

        Raises:
            OnlineStoreUnavailable: The store does not answer in time.
        """
        wanted = sorted({key for key in keys if key})
        names = [self._keys_of(key) for key in wanted]
        values = [n.state(TERMINAL, key) for n, key in zip(names, wanted, strict=True)]
        values += [n.state(LABEL, key) for n, key in zip(names, wanted, strict=True)]
        shards = sorted({n.marks for n in names})
        states, marks = await self._store.read_many(values, shards)
        progress = {
            shard: watermark_of(mark, incarnation)
            for shard, mark in zip(shards, marks, strict=True)
        }
        count = len(wanted)
        return SharedView(
            unpack_values(states[:count] or [None], TERMINAL_STATE),
            unpack_values(states[count:] or [None], LABEL_STATE),
            {key: place for place, key in enumerate(wanted)},
            {key: progress[n.marks] for key, n in zip(wanted, names, strict=True)},
        )

    def _keys_of(self, key: str) -> ShardKeys:
        partition = partition_of(log_key(TERMINAL, key), self._partitions)
        return self._store.keys(ShardRef(Role.ENTITY, partition, ""))
