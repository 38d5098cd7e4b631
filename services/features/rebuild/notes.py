"""What a run of the rebuild command has filled, kept in the store so that the next run goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Final

from fraudstream.broker.topic_info import Log
from fraudstream.store.shard import Marker, ShardKeys, ShardRef
from fraudstream.store.shard_store import StateStore
from services.features.rebuild.job import Filled, Job

_LIFE_S: Final = 7 * 86_400


class RebuildNotes:
    """Notes of one run. A store that lost what was filled has lost the note too, or says so.

    Args:
        store: The online store.
        name: Of the run.
    """

    def __init__(self, store: StateStore, name: str) -> None:
        self._store = store
        self._name = name

    async def find(self, shard: ShardRef, log: Log) -> Filled | None:
        """Return what an earlier run of this name filled of a shard, None for nothing.

        Raises:
            OnlineStoreUnavailable: The store does not answer.
        """
        (found,) = await self._store.nodes.pipeline([("GET", self._key(shard))])
        if found is None:
            return None
        note = json.loads(found)
        begun = replace(shard, generation=note["generation"])
        if (note["incarnation"], note["layout"]) != (begun.incarnation, begun.layout):
            return None
        read = Marker(**note["read"]) if note["read"] else None
        marker = await self._store.marker(shard)
        return Filled(
            job=Job(begun, log, read, begin=0),
            next_offset=note["next_offset"],
            states=note["states"],
            keys=_no_keys,
            is_switched=marker is not None and marker.generation == begun.generation,
        )

    async def keep(self, filled: Filled) -> None:
        """Keep what was filled.

        Raises:
            OnlineStoreUnavailable: The store does not answer.
        """
        shard, read = filled.job.shard, filled.job.read
        note = {
            "incarnation": shard.incarnation,
            "layout": shard.layout,
            "generation": shard.generation,
            "read": asdict(read) if read else None,
            "next_offset": filled.next_offset,
            "states": filled.states,
        }
        command = ("SET", self._key(shard), json.dumps(note), "EX", _LIFE_S)
        await self._store.nodes.pipeline([command])

    async def drop(self, filled: Filled) -> None:
        """Drop a note: the next run fills the shard again.

        Raises:
            OnlineStoreUnavailable: The store does not answer.
        """
        await self._store.nodes.pipeline([("DEL", self._key(filled.job.shard))])

    def _key(self, shard: ShardRef) -> str:
        return self._store.keys(shard).rebuild(self._name)


def _no_keys(_: ShardKeys) -> tuple[str, ...]:
    """Return nothing: what an earlier generation held is left to its life."""
    return ()
