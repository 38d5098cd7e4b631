"""Values that none of our services writes, by whoever has a login of the store."""

from __future__ import annotations

import numpy as np
import pytest
import redis.asyncio as redis

from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.features.state import CARD_STATE, is_sound
from fraudstream.store.shard import ShardRef
from fraudstream.store.shard_store import StateStore
from tests.worlds.store_shard import SHARD, X, Y, door_row

pytestmark = pytest.mark.attack


async def test_marker_that_is_no_number_costs_its_own_shard(
    store: StateStore, client: redis.Redis
) -> None:
    """Rows of other shards that share the round trip are admitted."""
    other = ShardRef(SHARD.role, SHARD.partition + 1, SHARD.incarnation)
    await store.open_shard(other, 1)
    await client.hset(store.keys(SHARD).marker, "next", "x")

    spoilt, sound = await store.admit([(SHARD, [door_row(X)]), (other, [door_row(Y)])])

    assert isinstance(spoilt, OnlineStoreUnavailable)
    assert isinstance(sound, list)
    assert len(sound) == 1


async def test_key_of_another_kind_reads_as_nothing(store: StateStore, client: redis.Redis) -> None:
    """What is read beside it is read."""
    names = store.keys(SHARD)
    claim = names.claim(X)
    await client.set(claim, b"claimed")
    await client.delete(names.marks)
    await client.set(names.marks, b"no hash")
    await client.hset(names.record(X), "no", "value")

    values, marks, markers = await store.read_many(
        [claim, names.record(X)], [names.marks], [names.marker]
    )

    assert values == [b"claimed", None]
    assert marks == [{}]
    assert markers[0]


async def test_write_to_a_key_of_another_kind_is_no_success(
    store: StateStore, client: redis.Redis
) -> None:
    """Only reads take it for nothing."""
    await client.set(store.keys(SHARD).outbox, b"no set")

    with pytest.raises(OnlineStoreUnavailable, match="WRONGTYPE"):
        await store.nodes.pipeline([("ZADD", store.keys(SHARD).outbox, 0, X)])


@pytest.mark.parametrize("field", ["rows", "purchases"])
@pytest.mark.parametrize("count", [-1, -100_000, 2**63 - 1])
def test_count_that_cannot_be_reaches_no_kernel(field: str, count: int) -> None:
    """Compiled code reckons places of its arrays from it, and checks no bound."""
    state = np.zeros(2, CARD_STATE)
    state[field][1] = count

    assert is_sound(state).tolist() == [True, False]
