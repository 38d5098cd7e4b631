"""How large stored values are, and what an online read of them costs beside Feast.

Both readers read the whole catalogue of the same cards from one Valkey and end with numbers in
memory: Feast's own store with one `Value` a feature, the hot path with one array.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.state import SHARED_STATE
from fraudstream.features.stored_values import CARD, CARD_VALUE, unpack_values
from fraudstream.store.shard import Role, ShardRef
from fraudstream.store.shard_store import STATE_LIFE_S, StateStore, StoredValue
from fraudstream.topics import partition_of
from harness.servers import ValkeyServer
from harness.settings import redis_settings_in
from loadtest.bench.cpu import spent
from loadtest.bench.figure import MeasurementFailed, Plan, Sides, experiment, ratio, taken
from loadtest.figures.features.join_vs_feast import CARD_KEY, VIEW
from loadtest.figures.table import figure

if TYPE_CHECKING:
    from feast import FeatureStore

CARDS: Final = 64
# Reads of one run: as many as take about a second.
FEAST_READS: Final = 40
HOT_READS: Final = 400
_DECIDED_MS: Final = 1_700_000_000_000
_SHARDS: Final = 4
_INCARNATION: Final = f"ab:{_SHARDS}"

Vectors = npt.NDArray[np.float32]


@experiment(
    figure("state_bytes_per_card", taken("layout", "card")),
    figure("state_bytes_per_shared_entity", taken("layout", "shared_entity")),
    apart=lambda _: {},
)
def stored_bytes(_: Plan) -> Iterator[Sides]:
    """Nothing is timed: the packed layouts say it."""
    yield {"layout": lambda: {"card": CARD_VALUE.itemsize, "shared_entity": SHARED_STATE.itemsize}}


@experiment(figure("online_read_vs_feast", ratio("feast", "hot")))
def online_read_vs_feast(plan: Plan) -> Iterator[Sides]:
    """Start Valkey, write the same vectors in both forms, and check both readers."""
    # Importing Feast takes ten seconds, which other figures shall not wait for.
    from loadtest.plain.feast_parts import open_floats

    cards = [f"bank.k1.{number:08d}" for number in range(CARDS)]
    vectors = np.random.default_rng(3).random((CARDS, len(FEATURE_NAMES)), np.float32)
    with ExitStack() as stack:
        valkey = ValkeyServer(plan.folder / "valkey")
        stack.callback(valkey.stop)
        valkey.start()
        settings = redis_settings_in(valkey.environment())
        none = plan.folder / "none.parquet"  # nothing is joined offline here
        feast = open_floats(plan.folder / "feast", settings, VIEW, FEATURE_NAMES, none)
        runner = stack.enter_context(asyncio.Runner())
        store = StateStore(settings)
        stack.callback(lambda: runner.run(store.close()))
        keys = runner.run(_write_packed(store, cards, vectors))
        theirs = _feast_reader(feast, cards, vectors)
        feast_reads, hot_reads = plan.rows(FEAST_READS, 2), plan.rows(HOT_READS, 2)

        def read_theirs() -> None:
            for _ in range(feast_reads):
                theirs()

        def read_hot() -> None:
            runner.run(_hot(store, keys, hot_reads))

        found = np.array([[row[n].float_val for n in FEATURE_NAMES] for _, row in theirs()])
        for answer in (found.astype(np.float32), runner.run(_hot(store, keys, 1))):
            if not np.array_equal(answer, vectors):
                raise MeasurementFailed("a reader found other vectors than were written")
        yield {
            "feast": lambda: spent(read_theirs, feast_reads * CARDS),
            "hot": lambda: spent(read_hot, hot_reads * CARDS),
        }


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
    stored = zip(keys, values, strict=True)
    await store.fill([StoredValue(key, value.tobytes(), STATE_LIFE_S) for key, value in stored])
    return keys


async def _hot(store: StateStore, keys: list[str], times: int) -> Vectors:
    """Read as the services do: one pipelined round trip, then one array."""
    vectors: Vectors = np.zeros(0, np.float32)
    for _ in range(times):
        values, _, _ = await store.read_many(keys)
        vectors = unpack_values(values, CARD_VALUE)["vector"]
    return vectors


def _feast_reader(feast: FeatureStore, cards: list[str], vectors: Vectors) -> Callable[[], Any]:
    """Write the vectors through Feast's own store; return what reads them."""
    from feast.infra.online_stores.redis import RedisOnlineStore
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    view, store, names = feast.get_feature_view(VIEW), RedisOnlineStore(), list(FEATURE_NAMES)
    decided = datetime.fromtimestamp(_DECIDED_MS / 1000, UTC)
    keys = [
        EntityKey(join_keys=[CARD_KEY], entity_values=[Value(string_val=card)]) for card in cards
    ]
    values = [
        {name: Value(float_val=number) for name, number in zip(names, vector, strict=True)}
        for vector in vectors.tolist()
    ]
    rows: Any = [(key, of, decided, None) for key, of in zip(keys, values, strict=True)]
    store.online_write_batch(feast.config, view, rows, None)
    return lambda: store.online_read(feast.config, view, keys, names)
