"""The three readers of `online_read_vs_feast`, and the values that they read.

All three read the whole catalogue of the same cards from one Valkey and end with numbers in
memory: Feast's stores with one `Value` a feature, the hot path with one array.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from feast import FeatureStore
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from fraudstream.feast_plugin.online_store import PackedOnlineStore
from fraudstream.features.catalogue import CATALOGUE, FEATURE_NAMES
from fraudstream.features.stored_values import CARD, CARD_VALUE, unpack_values
from fraudstream.store.shard import Role, ShardRef
from fraudstream.store.shard_store import STATE_LIFE_S, StateStore, StoredValue
from fraudstream.topics import partition_of
from harness.servers import ValkeyServer
from harness.settings import redis_settings_in
from loadtest.bench.figure import MeasurementFailed, Plan, Side, Sides
from loadtest.bench.spent import spent
from loadtest.figures.features.feast_parts import VIEW, open_catalogue
from loadtest.figures.features.join_vs_feast import CARD_KEY

CARDS: Final = 64
# Reads of one run: as many as take about a second.
FEAST_READS: Final = 40
PACKED_READS: Final = 40
HOT_READS: Final = 400
_DECIDED_MS: Final = 1_700_000_000_000
_SHARDS: Final = 4
_INCARNATION: Final = f"ab:{_SHARDS}"

Vectors = npt.NDArray[np.float32]
_FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]


@contextmanager
def running_readers(plan: Plan) -> Iterator[Sides]:
    """Start Valkey, write the same vectors in both forms, and check all three readers."""
    cards = [f"bank.k1.{number:08d}" for number in range(CARDS)]
    vectors = np.random.default_rng(3).random((CARDS, len(CATALOGUE)), np.float32)
    with ExitStack() as stack:
        valkey = ValkeyServer(plan.folder / "valkey")
        stack.callback(valkey.stop)
        valkey.start()
        settings = redis_settings_in(valkey.environment())
        feast = open_catalogue(plan.folder / "feast", plan.folder / "none.parquet", settings)
        stack.enter_context(_variables(valkey.environment()))
        runner = stack.enter_context(asyncio.Runner())
        store = StateStore(settings)
        stack.callback(lambda: runner.run(store.close()))
        keys = runner.run(_write_packed(store, cards, vectors))
        _write_feast(feast, cards, vectors)
        theirs = _read_by(RedisOnlineStore(), feast, cards)
        packed = _read_by(PackedOnlineStore(), feast, cards)
        hot_reads = plan.rows(HOT_READS, 2)
        for answer in (theirs(), packed(), runner.run(_hot(store, keys, 1))):
            _check(answer, vectors)
        yield {
            "feast": _repeated(theirs, plan.rows(FEAST_READS, 2)),
            "packed": _repeated(packed, plan.rows(PACKED_READS, 2)),
            "hot": lambda: spent(
                lambda: runner.run(_hot(store, keys, hot_reads)), hot_reads * CARDS
            ),
        }


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Name the store to `PackedOnlineStore`, which reads the environment, for a while."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def _write_packed(store: StateStore, cards: list[str], vectors: Vectors) -> list[str]:
    """Open the shards, write the cards' values as the stream does, and return their keys."""
    await store.connect()
    shards = [ShardRef(Role.CARD, number, _INCARNATION) for number in range(_SHARDS)]
    for shard in shards:
        await store.open_shard(shard, 0)
    values = np.zeros(len(cards), CARD_VALUE)
    values["vector"], values["decided_ms"] = vectors, _DECIDED_MS
    keys = [
        store.keys(shards[partition_of(card.encode(), _SHARDS)]).state(CARD, card) for card in cards
    ]
    await store.fill(
        [
            StoredValue(key, value.tobytes(), STATE_LIFE_S)
            for key, value in zip(keys, values, strict=True)
        ]
    )
    return keys


def _keys_of(cards: list[str]) -> list[EntityKey]:
    return [
        EntityKey(join_keys=[CARD_KEY], entity_values=[Value(string_val=card)]) for card in cards
    ]


def _write_feast(feast: FeatureStore, cards: list[str], vectors: Vectors) -> None:
    """Write the vectors through Feast's own store."""
    decided = datetime.fromtimestamp(_DECIDED_MS / 1000, UTC)
    rows: list[_FeastRow] = [
        (
            key,
            {
                name: Value(float_val=number)
                for name, number in zip(FEATURE_NAMES, vector.tolist(), strict=True)
            },
            decided,
            None,
        )
        for key, vector in zip(_keys_of(cards), vectors, strict=True)
    ]
    view = feast.get_feature_view(VIEW)
    RedisOnlineStore().online_write_batch(feast.config, view, rows, None)


def _read_by(store: Any, feast: FeatureStore, cards: list[str]) -> Callable[[], Any]:
    view, keys, config = feast.get_feature_view(VIEW), _keys_of(cards), feast.config
    names = list(FEATURE_NAMES)
    return lambda: store.online_read(config, view, keys, names)


def _repeated(read: Callable[[], Any], times: int) -> Side:
    def work() -> None:
        for _ in range(times):
            read()

    return lambda: spent(work, times * CARDS)


async def _hot(store: StateStore, keys: list[str], times: int) -> Vectors:
    """Read as the services do: one pipelined round trip, then one array."""
    vectors: Vectors = np.zeros(0, np.float32)
    for _ in range(times):
        values, _, _ = await store.read_many(keys)
        vectors = unpack_values(values, CARD_VALUE)["vector"]
    return vectors


def _check(answer: Any, vectors: Vectors) -> None:
    """Check that a reader found what was written.

    Raises:
        MeasurementFailed: It did not.
    """
    found = answer
    if not isinstance(answer, np.ndarray):
        found = np.array(
            [[row[name].float_val for name in FEATURE_NAMES] for _, row in answer], np.float32
        )
    if not np.array_equal(found, vectors):
        raise MeasurementFailed("a reader found other vectors than were written")
