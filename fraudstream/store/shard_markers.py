"""Which generation each shard of one role is in, for readers that no script fences.

A marker is read once and kept. A reader reads it again in the same round trip as its values, after
them, and asks `has_changed`: where it has, what was read is of another generation: read again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from fraudstream.errors import ShardClosed
from fraudstream.store.shard import Role, ShardRef, shard_of
from fraudstream.store.shard_store import StateStore

# No generation is named so: a shard without a marker of this layout reads as one without states.
NO_GENERATION: Final = ""
_NAMING: Final = (b"layout", b"incarnation", b"generation")


class ShardMarkers:
    """The shards of one role as their markers name them.

    Args:
        store: The online store.
        role: Cards or shared entities.
    """

    def __init__(self, store: StateStore, role: Role) -> None:
        self._store = store
        self._role = role
        self._known: dict[int, ShardRef] = {}
        # What names a shard as it was last read, and its marker's key: each read asks for both.
        self._read: dict[int, tuple[bytes | None, ...]] = {}
        self._keys: dict[int, str] = {}

    def marker_key(self, partition: int) -> str:
        """Return the name of a shard's marker, to be read after its values."""
        key = self._keys.get(partition)
        if key is None:
            key = self._store.keys(ShardRef(self._role, partition, "")).marker
            self._keys[partition] = key
        return key

    async def shards(self, partitions: Collection[int]) -> dict[int, ShardRef]:
        """Return shards as their markers name them; those not known yet cost one round trip.

        Raises:
            OnlineStoreUnavailable: The store does not answer in time.
        """
        unknown = [p for p in partitions if p not in self._known]
        if unknown:
            names = [self.marker_key(partition) for partition in unknown]
            _, markers, _ = await self._store.read_many((), names)
            for partition, marker in zip(unknown, markers, strict=True):
                self.has_changed(partition, marker)
        return {p: self._known[p] for p in partitions}

    def has_changed(self, partition: int, marker: Mapping[bytes, bytes]) -> bool:
        """Keep a marker that was read, and tell whether it names another shard than was known.

        Args:
            partition: The shard's partition.
            marker: Fields of its marker as `StateStore.read_many` returns them; empty for none.
        """
        read = tuple(map(marker.get, _NAMING))
        if read == self._read.get(partition):
            return False
        self._read[partition] = read
        named = _shard_of(self._role, partition, marker)
        is_other = self._known.get(partition) != named
        self._known[partition] = named
        return is_other


def _shard_of(role: Role, partition: int, marker: Mapping[bytes, bytes]) -> ShardRef:
    try:
        return shard_of(role, partition, marker)
    except ShardClosed:
        return ShardRef(role, partition, "", NO_GENERATION)
