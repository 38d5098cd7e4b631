"""Another primary behind the same address: no call that expected the old one reaches its keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from fraudstream.errors import FraudStreamError, OnlineStoreUnavailable, ShardClosed
from fraudstream.settings import RedisSettings
from fraudstream.store.shard import RecordRow, Role, ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.topics import incarnation_of
from harness.servers import ValkeyServer

_SHARD: Final = ShardRef(Role.CARD, 0, incarnation_of(bytes(16), 1))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A store of this test alone, which keeps its keys over a restart."""
    durable = ValkeyServer(tmp_path, is_durable=True)
    durable.start()
    yield durable
    durable.stop()


async def _record(store: StateStore, number: int) -> str:
    """Return what became of a decision: its outcome, or the name of its error."""
    row = RecordRow(bytes([number] * 16), bytes(32), b"decision", None)
    (answers,) = await store.record_decisions([(_SHARD, [row])])
    if isinstance(answers, FraudStreamError):
        return type(answers).__name__
    return answers[0].outcome.value


async def test_calls_in_flight_at_a_failover_record_nothing(server: ValkeyServer) -> None:
    """The fence names the primary that was looked at; a reconnection meets another: refused."""
    settings = RedisSettings(url=SecretStr(server.url), key_prefix="failover", timeout_s=5.0)
    store = StateStore(settings)
    await store.connect()
    await store.open_shard(_SHARD, 0)
    await asyncio.gather(*(_record(store, number) for number in range(4)))
    server.stop()
    server.start()  # the same keys, the same address, another replication id

    at_once = await asyncio.gather(*(_record(store, number) for number in range(4, 8)))
    later = [await _record(store, number) for number in range(8, 14)]
    await store.close()

    refused = {OnlineStoreUnavailable.__name__, ShardClosed.__name__}
    assert set(at_once) | set(later) <= refused
    assert later[-1] == ShardClosed.__name__
