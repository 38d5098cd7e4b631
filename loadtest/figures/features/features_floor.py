"""The features stage without scoring, against its floor.

Both sides are one batch agent over the same accepted rows, with a Valkey each that holds a value
for every card and shared entity of the rows, so both read and write as many bytes. A row is
admitted, judged, computed, sent on to its entities and made into a request by the features side
only; the floor decodes it and moves its bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import Final

from fraudstream.broker.topic_info import find_log
from fraudstream.features.state import SHARED_STATE
from fraudstream.features.stored_values import CARD, CARD_VALUE
from fraudstream.store.shard import Role, ShardRef
from fraudstream.store.shard_store import STATE_LIFE_S, StateStore, StoredValue
from fraudstream.topics import ACCEPTED, ENTITIES, partition_of
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from harness.settings import kafka_settings_in, redis_settings_in
from loadtest.bench.cpu import lacking_for_cpu
from loadtest.bench.figure import Plan, Sample, Side, Sides, experiment, ratio
from loadtest.figures.line.backlog import BacklogRow, accepted_rows, traffic_settings
from loadtest.figures.line.consumption import Consumption, running_worker
from loadtest.figures.line.servers import any_broker, running_broker, side_servers
from loadtest.figures.table import figure
from loadtest.workers.features import FLOOR_GROUP, shared_keys

ROWS: Final = 4_000
_WARM_UP: Final = 1_000
_FILL_LOT: Final = 500
_SIDES: Final = (("features", "features-card"), ("floor", FLOOR_GROUP))


@experiment(figure("features_vs_floor", ratio("features", "floor")), needs=(lacking_for_cpu,))
def features_vs_floor(plan: Plan) -> Iterator[Sides]:
    """What the features stage adds to moving its bytes."""
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(any_broker(plan)))
        sides: dict[str, Side] = {}
        for name, group in _SIDES:
            servers = stack.enter_context(side_servers(broker, name, plan.folder))
            environment, folder = servers.environment, plan.folder / name
            worker = stack.enter_context(running_worker(name, group, environment, folder))
            tokeniser = Tokeniser(TokenKeys.load(folder / "token-keys.json"))
            rows = accepted_rows(traffic_settings(), tokeniser, worker.partitions)
            _work_off(worker, environment, rows, _WARM_UP)
            sides[name] = partial(_work_off, worker, environment, rows, plan.rows(ROWS))
        yield sides


def _work_off(
    worker: Consumption, environment: Mapping[str, str], rows: Iterator[BacklogRow], count: int
) -> Sample:
    """Fill the store with what the next rows read, then work them off."""
    chosen = list(islice(rows, count))
    asyncio.run(fill_store(environment, chosen))
    return worker.run([row.record for row in chosen])


async def fill_store(environment: Mapping[str, str], rows: Sequence[BacklogRow]) -> None:
    """Write an empty state of full size for each card and entity of some rows that has none."""
    kafka = kafka_settings_in(environment)
    log = await asyncio.to_thread(find_log, kafka, ACCEPTED)
    entities = await asyncio.to_thread(find_log, kafka, ENTITIES)
    store = StateStore(redis_settings_in(environment))
    transactions = [AcceptedTransaction.FromString(row.record.value).transaction for row in rows]
    cards = [
        store.keys(_shard(t.card_token, log.incarnation, log.partitions)).state(CARD, t.card_token)
        for t in transactions
    ]
    shared, _ = shared_keys(store, transactions, entities.partitions)
    sized = {key: bytes(CARD_VALUE.itemsize) for key in cards}
    sized |= {key: bytes(SHARED_STATE.itemsize) for key in shared}
    keys = list(sized)
    for begin in range(0, len(keys), _FILL_LOT):
        lot = keys[begin : begin + _FILL_LOT]
        known, _, _ = await store.read_many(lot)
        missing = [key for key, value in zip(lot, known, strict=True) if value is None]
        await store.fill([StoredValue(key, sized[key], STATE_LIFE_S) for key in missing])
    await store.close()


def _shard(card_token: str, incarnation: str, partitions: int) -> ShardRef:
    return ShardRef(Role.CARD, partition_of(card_token.encode(), partitions), incarnation)
