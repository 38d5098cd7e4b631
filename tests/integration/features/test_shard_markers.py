"""Readers without a fence: which generation they read, and how they notice that it is another."""

from __future__ import annotations

from dataclasses import replace

import redis.asyncio as redis

from fraudstream.store.generations import Generations, Switch
from fraudstream.store.shard import FIRST_GENERATION, Role
from fraudstream.store.shard_markers import NO_GENERATION, ShardMarkers
from fraudstream.store.shard_store import StateStore, StoredValue
from tests.worlds.store_shard import NOW_MS, SHARD


async def test_reader_notices_a_switch_in_the_round_trip_of_its_values(store: StateStore) -> None:
    """The marker is read after the values: what it names is what they are of, or they are stale."""
    markers, generations = ShardMarkers(store, Role.CARD), Generations(store)
    shard = (await markers.shards([SHARD.partition]))[SHARD.partition]
    opened = await store.marker(SHARD)
    begun = await generations.begin(SHARD, NOW_MS)
    await generations.fill([StoredValue(store.keys(begun).state("card", "c"), b"new", 60)])
    key = markers.marker_key(SHARD.partition)

    _, _, before = await store.read_many([store.keys(shard).state("card", "c")], (), [key])
    is_other_before = markers.has_changed(SHARD.partition, before[0])
    assert await generations.switch(opened, begun, 7) is Switch.SWITCHED
    _, _, after = await store.read_many([store.keys(shard).state("card", "c")], (), [key])
    is_other_after = markers.has_changed(SHARD.partition, after[0])
    now = (await markers.shards([SHARD.partition]))[SHARD.partition]
    values, _, _ = await store.read_many([store.keys(now).state("card", "c")])

    assert shard.generation == FIRST_GENERATION
    assert (is_other_before, is_other_after) == (False, True)
    assert values == [b"new"]


async def test_shard_without_marker_or_of_another_layout_reads_as_empty(
    store: StateStore, client: redis.Redis
) -> None:
    """Nothing is read of a layout that this release cannot unpack."""
    other = replace(SHARD, partition=5)
    await store.open_shard(other, 1)
    await client.hset(store.keys(other).marker, "layout", "another")

    found = await ShardMarkers(store, Role.CARD).shards([4, 5])

    assert {shard.generation for shard in found.values()} == {NO_GENERATION}
