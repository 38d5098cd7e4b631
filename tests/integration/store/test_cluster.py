"""The store on a Valkey Cluster: every shard on its node, and a node that loses its last writes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from feast import RepoConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from redis.crc import key_slot

from fraudstream.errors import OnlineStoreUnavailable, ShardClosed
from fraudstream.feast_plugin.online_store import PackedOnlineStore
from fraudstream.feast_plugin.views import feature_views
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.stored_values import CARD, CARD_VALUE
from fraudstream.store.shard import Marker, RecordOutcome, RecordRow, Role, ShardRef
from fraudstream.store.shard_store import ShardWrite, StateStore, StoredValue
from fraudstream.topics import partition_of
from fraudstream.v1.scoring_pb2 import ScoreRequest
from harness.servers import Broker
from tests.conftest import create_topics
from tests.servers.valkey_cluster import ValkeyCluster
from tests.worlds.scoring_world import some_transaction
from tests.worlds.shard_line import CARDS, ShardLine, ShardRole, rows_of_cards, shard_line
from tests.worlds.store_shard import D1, NOW_MS, X, admit, door_row, record, store_settings

pytestmark = pytest.mark.slow
_ROWS = rows_of_cards(0, 200)
_SHARDS = [ShardRef(role, number, "00:6") for role in Role for number in range(6)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ValkeyCluster]:
    """A cluster of this test's own, which it may break."""
    made = ValkeyCluster(tmp_path / "cluster")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def cluster_env(cluster: ValkeyCluster) -> dict[str, str]:
    """Variables of the cluster."""
    return {**cluster.environment(), "FRAUD_REDIS_KEY_PREFIX": "fraud"}


@pytest.fixture
async def cluster_store(cluster_env: Mapping[str, str]) -> AsyncIterator[StateStore]:
    """A connected store, its shards open at 1."""
    store = StateStore(store_settings(cluster_env))
    await store.connect()
    for shard in _SHARDS:
        await store.open_shard(shard, 1)
    yield store
    await store.close()


@pytest.fixture
async def line(
    broker: Broker, cluster_env: Mapping[str, str], tmp_path: Path
) -> AsyncIterator[ShardLine]:
    """A line over the cluster."""
    environment = {
        **broker.environment(),
        **cluster_env,
        "FRAUD_KAFKA_TOPIC_PREFIX": f"{tmp_path.name}-",
    }
    create_topics(environment, tmp_path)
    async with shard_line(environment, tmp_path) as made:
        yield made


def _node_of(shard: ShardRef) -> int:
    """Return the number of the primary that serves a shard."""
    return key_slot(f"{{{shard.role}{shard.partition}}}".encode()) * 3 // 16_384


async def test_every_script_runs_on_the_node_of_its_shard(cluster_store: StateStore) -> None:
    """Shards lie on all three primaries; each script finds its own, and reads span them."""
    store = cluster_store
    keys = []
    for shard in _SHARDS:
        names = store.keys(shard)
        row = RecordRow(X, D1, b"D", None)
        assert (await record(store, shard, [row]))[0].outcome is RecordOutcome.RECORDED
        await store.hold_unpublished(shard, [X])
        assert [entry.identity for entry in await store.take_unpublished(shard, 0, 5)] == [X]
        await store.settle_published(shard, [row])
        (answer,) = await admit(store, shard, [door_row(b"y" * 16)])
        assert answer.next_offset == 1
        value = StoredValue(names.state("card", "c"), str(shard.partition).encode(), 60)
        await store.write_shard(shard, ShardWrite(1, 5, [value], [("source", "1:1:1")]))
        assert await store.read_shard(shard, 5, [value.key]) == [value.content]
        keys.append(value.key)

    values, marks, _ = await store.read_many(keys, [store.keys(s).marks for s in _SHARDS])

    assert {_node_of(shard) for shard in _SHARDS} == {0, 1, 2}
    assert values == [str(shard.partition).encode() for shard in _SHARDS]
    assert marks == [{b"source": b"1:1:1"}] * len(_SHARDS)


async def test_feast_reads_cards_of_all_nodes(
    cluster_store: StateStore,
    cluster_env: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The online store of Feast finds each card on the node of its shard."""
    for name, setting in cluster_env.items():
        monkeypatch.setenv(name, setting)
    keys = []
    for card in CARDS:
        shard = replace(_SHARDS[0], partition=partition_of(card.encode(), 6))
        value = np.zeros(1, CARD_VALUE)
        value["vector"], value["decided_ms"] = 2.5, NOW_MS
        key = cluster_store.keys(shard).state(CARD, card)
        await cluster_store.fill([StoredValue(key, value.tobytes(), 60)])
        keys.append(EntityKey(join_keys=["card_token"], entity_values=[Value(string_val=card)]))
    reader = PackedOnlineStore()

    found = await asyncio.to_thread(
        reader.online_read,
        RepoConfig.model_construct(project="test"),
        feature_views(Path("decisions"))[0],
        keys,
        [FEATURE_NAMES[0]],
    )

    assert [row[FEATURE_NAMES[0]].float_val for _, row in found if row] == [2.5] * len(CARDS)


async def test_dead_primary_leaves_the_shards_of_the_others(
    cluster_store: StateStore, cluster: ValkeyCluster
) -> None:
    """Its own shards are unavailable at once, without a retry; the rest of a poll goes on."""
    cluster.primaries[1].process.kill()

    for shard in _SHARDS:
        if _node_of(shard) == 1:
            with pytest.raises(OnlineStoreUnavailable):
                await cluster_store.read_shard(shard, 1, [])
        else:
            assert await cluster_store.read_shard(shard, 1, []) == []


async def test_shards_of_a_promoted_replica_are_closed(
    cluster_store: StateStore, cluster: ValkeyCluster
) -> None:
    """The marker came along and names the primary before: no script passes, the first included."""
    cluster.fail_over(2)

    for shard in _SHARDS:
        if _node_of(shard) == 2:
            with pytest.raises(OnlineStoreUnavailable):
                await cluster_store.read_shard(shard, 1, [])
            break
    for shard in _SHARDS:
        if _node_of(shard) == 2:
            with pytest.raises(ShardClosed):
                await cluster_store.read_shard(shard, 1, [])


async def _apply(line: ShardLine, cards: ShardRole, begin: int, end: int) -> None:
    """Take rows through the stream, in several batches a shard."""
    for first in range(begin, end, 20):
        await line.accept(_ROWS[first : first + 20])
        await line.settle(cards, first + 20)


async def _fallen_back(
    line: ShardLine, cards: ShardRole, before: Mapping[ShardRef, Marker | None]
) -> list[ShardRef]:
    """Return the shards whose `next` is lower than before the failover."""
    with suppress(OnlineStoreUnavailable):  # the first call after it finds the old map
        await line.markers(Role.CARD, cards.log)
    after = await line.markers(Role.CARD, cards.log)
    return [shard for shard, marker in after.items() if _next(marker) < _next(before[shard])]


def _next(marker: Marker | None) -> int:
    return marker.next_offset if marker else 0


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_replica_promoted_without_its_last_writes_is_rebuilt(
    line: ShardLine, cluster: ValkeyCluster, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """Acknowledged writes are gone with their primary; the log brings them back, once."""
    async with line.role(Role.CARD) as cards:
        await _apply(line, cards, 0, 100)
        cluster.hold_back(number)
        await _apply(line, cards, 100, 200)
        asked = ScoreRequest(transaction=some_transaction(999, card=1))
        answered = await line.scoring.front.Score(asked, timeout=10)
        await line.settle(cards, 201)
        before = await line.card_values(CARDS)
        markers = await line.markers(Role.CARD, cards.log)
        cluster.fail_over(number)
        lost = await _fallen_back(line, cards, markers)
        with caplog.at_level(logging.WARNING):
            await line.settle(cards, 201)
        again = await line.scoring.front.Score(asked, timeout=10)

        assert {_node_of(shard) for shard in lost} == {number}
        assert "another primary took over" in caplog.text
        assert await line.card_values(CARDS) == before
        assert len(await line.decisions()) == 201
        assert (again.replayed, again.score) == (True, answered.score)
        await line.accept(_ROWS)
        await line.settle(cards, 401)
        assert await line.counted_rows(CARDS) == 201
