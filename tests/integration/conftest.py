"""A store and a plain connection for the tests of the store's scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
import redis.asyncio as redis

from fraudstream.store.shard_store import StateStore
from harness.servers import ValkeyServer
from tests.worlds.store_shard import SHARD, store_settings


@pytest.fixture
async def store(line_env: Mapping[str, str]) -> AsyncIterator[StateStore]:
    """A connected store with keys of its own; its shard is open at 1."""
    opened = StateStore(store_settings(line_env))
    await opened.connect()
    await opened.open_shard(SHARD, 1)
    yield opened
    await opened.close()


@pytest.fixture
async def client(valkey: ValkeyServer) -> AsyncIterator[redis.Redis]:
    """A plain connection, for what no script does."""
    plain = redis.Redis.from_url(valkey.url)
    yield plain
    await plain.aclose()


@pytest.fixture
def mortal_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A store of this test's own, which it may end."""
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()
