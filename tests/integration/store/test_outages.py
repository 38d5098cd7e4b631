"""A store that is another, empty, slow or gone: every script says so, and none guesses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
import redis.asyncio as redis

from fraudstream.errors import OnlineStoreUnavailable, ShardClosed
from fraudstream.store.shard import RecordOutcome, ShardRef
from fraudstream.store.shard_store import ShardWrite, StateStore
from fraudstream.topics import incarnation_of
from harness.servers import ValkeyServer
from tests.worlds.store_shard import (
    D1,
    SHARD,
    X,
    admit,
    decision_row,
    door_row,
    record,
    record_row,
    store_settings,
)

_OTHERS = [
    replace(SHARD, incarnation=incarnation_of(b"n" * 16, 6)),
    replace(SHARD, incarnation=incarnation_of(bytes(16), 7)),
    replace(SHARD, generation="g2"),
    replace(SHARD, layout="other"),
    replace(SHARD, partition=4),
]


@pytest.mark.parametrize("other", _OTHERS, ids=["topic", "widened", "generation", "layout", "none"])
async def test_shard_of_another_marker_is_closed_for_all(
    store: StateStore, other: ShardRef
) -> None:
    """Closed, no script decides, reads or writes."""
    row = decision_row(X, D1, None)

    with pytest.raises(ShardClosed):
        await record(store, other, [row])
    with pytest.raises(ShardClosed):
        await admit(store, other, [door_row(X)])
    with pytest.raises(ShardClosed):
        await store.read_shard(other, 1, [])
    with pytest.raises(ShardClosed):
        await store.write_shard(other, ShardWrite(1, 2))

    assert (await record_row(store, row))[0] is RecordOutcome.RECORDED


async def test_another_primary_closes_the_shard(
    line_env: Mapping[str, str], mortal_valkey: ValkeyServer
) -> None:
    """A replica that was promoted may lack the last writes: already the first script is refused."""
    store = StateStore(store_settings({**line_env, **mortal_valkey.environment()}))
    await store.connect()
    opened = await store.open_shard(SHARD, 1)
    server = redis.Redis.from_url(mortal_valkey.url)
    await server.replicaof("127.0.0.1", "1")
    await server.replicaof("NO", "ONE")
    await server.aclose()

    with pytest.raises(ShardClosed):
        await record(store, SHARD, [decision_row(X, D1, None)])

    found = await store.marker(SHARD)
    await store.close()
    assert opened.is_open_for(SHARD)
    assert found is not None
    assert not found.is_open_for(SHARD)


async def test_flushed_store_is_closed(store: StateStore, client: redis.Redis) -> None:
    """Without its marker a shard decides nothing."""
    await client.delete(store.keys(SHARD).marker)

    with pytest.raises(ShardClosed):
        await record(store, SHARD, [decision_row(X, D1, None)])
    assert await store.marker(SHARD) is None


async def test_scripts_are_loaded_again_where_the_server_forgot_them(
    store: StateStore, client: redis.Redis
) -> None:
    """A script that is not there did not run, so it is safe to load and run it."""
    await client.script_flush()

    assert (await record_row(store, decision_row(X, D1, None)))[0] is RecordOutcome.RECORDED


async def test_store_that_is_gone_is_an_error_of_ours(line_env: Mapping[str, str]) -> None:
    """Nobody listens: one attempt, at once."""
    gone = store_settings({**line_env, "FRAUD_REDIS_URL": "redis://127.0.0.1:1/0"})

    with pytest.raises(OnlineStoreUnavailable):
        await StateStore(gone).connect()


async def test_store_that_does_not_answer_costs_one_timeout(line_env: Mapping[str, str]) -> None:
    """No retry is hidden: the outcome of a script is unknown after the first time-out."""
    calls = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(writer)
        await reader.read()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    silent = {**line_env, "FRAUD_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    store = StateStore(store_settings(silent, timeout_s=0.3))
    began = time.monotonic()

    with pytest.raises(OnlineStoreUnavailable):
        await store.marker(SHARD)

    assert time.monotonic() - began < 3.0
    assert len(calls) == 1
    await store.close()
    server.close()
