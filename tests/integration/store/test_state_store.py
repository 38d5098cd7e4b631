"""The store's state write and read on a real Valkey: what a batch may and may not do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fraudstream.errors import ShardClosed, ShardMoved
from fraudstream.store.shard_store import ShardWrite, StateStore, StoredValue
from tests.worlds.store_shard import CARD, SHARD, X, next_offset


async def test_batch_after_a_lost_write_is_refused(store: StateStore) -> None:
    """Partial success: rows 1 to 3 were not written, so a write that begins at 4 is not next."""
    with pytest.raises(ShardMoved):
        await store.write_shard(SHARD, ShardWrite(4, 6))

    assert await next_offset(store) == 1


async def test_zombie_write_after_another_worker_is_refused(store: StateStore) -> None:
    """The batch's own begin is compared, not what was read: a replay of 1..5 writes nothing."""
    await store.write_shard(SHARD, ShardWrite(1, 5))
    state = StoredValue(store.keys(SHARD).state("card", CARD), b"twice", 60)

    with pytest.raises(ShardMoved):
        await store.write_shard(SHARD, ShardWrite(1, 5, [state]))

    assert await store.read_shard(SHARD, None, [state.key]) == [None]


async def test_read_by_a_zombie_is_refused(store: StateStore) -> None:
    """Features' read checks the begin as its write does."""
    await store.write_shard(SHARD, ShardWrite(1, 5))

    with pytest.raises(ShardMoved):
        await store.read_shard(SHARD, 1, [])


async def test_batch_of_duplicates_only_moves_next(store: StateStore) -> None:
    """A batch that counts nothing still moves the marker, or it would replay for ever."""
    await store.write_shard(SHARD, ShardWrite(1, 9))

    assert await next_offset(store) == 9


async def test_claims_states_marks_and_marker_are_written_together_or_not_at_all(
    store: StateStore,
) -> None:
    """A refused write leaves no claim behind: a claim alone would make its row a duplicate."""
    names = store.keys(SHARD)
    keys = [names.claim(X), names.state("card", CARD)]
    values = [StoredValue(key, b"value", 60) for key in keys]

    with pytest.raises(ShardMoved):
        await store.write_shard(SHARD, ShardWrite(2, 3, values, [("source", "1:1:1")]))
    refused = await store.read_shard(SHARD, 1, keys)
    await store.write_shard(SHARD, ShardWrite(1, 3, values, [("source", "1:1:1")]))

    assert refused == [None, None]
    assert await store.read_shard(SHARD, 3, keys) == [b"value", b"value"]
    assert (await store.read_many((), [names.marks]))[1] == [{b"source": b"1:1:1"}]


async def test_open_shard_is_not_opened_twice(store: StateStore) -> None:
    """The marker that stands is answered; a second opener changes nothing."""
    await store.write_shard(SHARD, ShardWrite(1, 7))

    assert (await store.open_shard(SHARD, 0)).next_offset == 7


async def test_opening_is_refused_where_the_store_lost_its_witness(store: StateStore) -> None:
    """What the opener saw in the logs meanwhile may be old: nothing is opened."""
    shard = replace(SHARD, partition=SHARD.partition + 1)
    lost, kept = await store.begin_opening(shard), await store.begin_opening(shard)
    await store.nodes.pipeline([("DEL", lost)])

    with pytest.raises(ShardClosed):
        await store.open_shard(shard, 0, lost)
    assert await store.marker(shard) is None
    assert (await store.open_shard(shard, 0, kept)).next_offset == 0
