"""Cards with a past: states in the store as the stream would have left them, and what comes next.

A history of some customers is simulated and walked by our kernels; its states are written under
many cards a customer, and those of the shared entities under their own keys. So features and
sequences of a call are those of a card in use, and a run asks each card seldom: nothing takes the
calls out of the cards' pending lists here, where no features worker runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.broker.topic_info import Log, find_log
from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.catalogue import SHARED_ENTITIES
from fraudstream.features.entity_kernel import advance_shared
from fraudstream.features.state import CARD_STATE, SHARED_ROW, SHARED_STATE, rows_of
from fraudstream.features.stored_values import (
    CARD,
    CARD_VALUE,
    entity_keys,
    log_key,
)
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings, RedisSettings
from fraudstream.store.entity_reader import HighMark, source_field
from fraudstream.store.shard import Role, ShardRef
from fraudstream.store.shard_store import STATE_LIFE_S, ShardWrite, StateStore, StoredValue
from fraudstream.topics import ACCEPTED, ENTITIES, partition_of
from fraudstream.transaction.card_token import NO_TOKENS
from fraudstream.transaction.money import indicative_rate_table
from fraudstream.transaction.validate import canonicalise
from fraudstream.v1.transaction_pb2 import Transaction, TransactionKind
from loadtest.bench.figure import Plan
from loadtest.traffic import FreshTransactions, card_token, customer_number
from training.simulator.simulate import SimulationSettings, live_traffic

CUSTOMERS: Final = 2_000
CARDS_OF_CUSTOMER: Final = 50
_HISTORY_ROWS: Final = 40_000
_MODELS: Final = 8_000
_HISTORY_D: Final = 30
_SEED: Final = 23
_BATCH: Final = 5_000
_DAY_S: Final = 86_400
# Marks of the shared entities' shards stand in the future: their features are never stale.
_AHEAD_MS: Final = 6 * 3_600_000

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureLot:
    """Canonical transactions with their features, float32 [n, F] and [n, T, C]."""

    transactions: Sequence[Transaction]
    vectors: Vectors
    sequences: Vectors


@dataclass(frozen=True, slots=True)
class Population:
    """Customers with a past: banks and states by number, and shared entities by kind and key.

    `coming` has features as of the end of that past; each customer has so many `cards`.
    """

    banks: Mapping[int, str]
    states: npt.NDArray[np.void]
    shared: Mapping[tuple[int, str], bytes]
    coming: FeatureLot
    cards: int

    def fresh(self, seed: int) -> FreshTransactions:
        """Return transactions without end."""
        return FreshTransactions(self.coming.transactions, self.cards, seed)


def make_population(plan: Plan) -> Population:
    """Simulate and walk a history; a smaller one at a lower scale."""
    history, coming = plan.rows(_HISTORY_ROWS, 2_000), plan.rows(_MODELS, 500)
    customers = plan.rows(CUSTOMERS, 100)
    transactions = _simulated(customers, history, history + coming)
    states = np.zeros(customers, CARD_STATE)
    state_of = np.array([customer_number(t) for t in transactions], np.int64)
    rows = rows_of(transactions)
    outputs = empty_outputs(coming)
    places = np.arange(len(rows), dtype=np.int64) - history
    places[:history] = -1
    unusual = advance_cards(states, state_of[:history], rows[:history], outputs, places[:history])
    after_history = states.copy()
    advance_cards(states, state_of[history:], rows[history:], outputs, places[history:])
    shared = _walk_shared(transactions[:history], rows[:history], unusual)
    return Population(
        banks={customer_number(t): t.bank_id for t in transactions},
        states=after_history,
        shared=shared,
        coming=FeatureLot(transactions[history:], *outputs),
        cards=plan.rows(CARDS_OF_CUSTOMER, 2),
    )


def _simulated(customers: int, history: int, count: int) -> list[Transaction]:
    """Return canonical transactions of which the first so many end about now."""
    rate_per_s = history / (_HISTORY_D * _DAY_S)
    start_ms = epoch_ms() - _HISTORY_D * _DAY_S * 1_000
    settings = SimulationSettings(
        seed=_SEED, cards=customers, start_ms=start_ms, rate_per_s=rate_per_s
    )
    rates = indicative_rate_table()
    transactions = []
    for simulated in islice(live_traffic(settings), count):
        transaction = simulated.transaction
        transaction.card_token = card_token(transaction.bank_id, customer_number(transaction))
        canonicalise(transaction, NO_TOKENS, rates)
        transactions.append(transaction)
    return transactions


def _walk_shared(
    transactions: Sequence[Transaction], rows: npt.NDArray[np.void], unusual: npt.NDArray[np.int8]
) -> dict[tuple[int, str], bytes]:
    """Return the states of shared entities after their purchases, by kind and key."""
    counted = np.flatnonzero(rows["kind"] == TransactionKind.TRANSACTION_KIND_PURCHASE)
    keys = [entity_keys(transactions[place]) for place in counted.tolist()]
    shared_rows = np.zeros(len(counted), SHARED_ROW)
    for field in ("event_ms", "amount", "kind"):
        shared_rows[field] = rows[field][counted]
    shared_rows["is_unusual"] = unusual[counted]
    shared_rows["applied"] = np.arange(1, len(counted) + 1)
    found: dict[tuple[int, str], bytes] = {}
    for kind in range(len(SHARED_ENTITIES)):
        numbers = {key: n for n, key in enumerate(dict.fromkeys(row[kind] for row in keys))}
        states = np.zeros(len(numbers), SHARED_STATE)
        state_of = np.array([numbers[row[kind]] for row in keys], np.int64)
        advance_shared(states, state_of, shared_rows)
        found |= {(kind, key): states[n].tobytes() for key, n in numbers.items() if key}
    return found


async def fill_store(redis: RedisSettings, kafka: KafkaSettings, population: Population) -> Log:
    """Open every shard and write all states; return the log of the cards' shards."""
    accepted, entities = find_log(kafka, ACCEPTED), find_log(kafka, ENTITIES)
    store = StateStore(redis)
    await store.connect()
    try:
        await _open_shards(store, accepted, entities, epoch_ms())
        values = [
            *_card_values(store, accepted, population),
            *_shared_values(store, entities, population),
        ]
        for begin in range(0, len(values), _BATCH):
            await store.fill(values[begin : begin + _BATCH])
    finally:
        await store.close()
    return accepted


async def _open_shards(store: StateStore, accepted: Log, entities: Log, now_ms: int) -> None:
    for partition in range(accepted.partitions):
        await store.open_shard(ShardRef(Role.CARD, partition, accepted.incarnation), 0)
    mark = HighMark(0, 0, now_ms + _AHEAD_MS).packed()
    marks = [(source_field(accepted.topic_id, p), mark) for p in range(accepted.partitions)]
    for partition in range(entities.partitions):
        shard = ShardRef(Role.ENTITY, partition, entities.incarnation)
        await store.open_shard(shard, 0)
        await store.write_shard(shard, ShardWrite(0, 0, marks=marks))


def _card_values(store: StateStore, log: Log, population: Population) -> Iterator[StoredValue]:
    contents = np.zeros(len(population.states), CARD_VALUE)
    contents["state"] = population.states
    for customer, bank in population.banks.items():
        content = contents[customer].tobytes()
        for card in range(population.cards):
            token = card_token(bank, customer * population.cards + card)
            partition = partition_of(token.encode(), log.partitions)
            keys = store.keys(ShardRef(Role.CARD, partition, log.incarnation))
            yield StoredValue(keys.state(CARD, token), content, STATE_LIFE_S)


def _shared_values(store: StateStore, log: Log, population: Population) -> Iterator[StoredValue]:
    for (kind, key), content in population.shared.items():
        entity = SHARED_ENTITIES[kind]
        partition = partition_of(log_key(entity, key), log.partitions)
        keys = store.keys(ShardRef(Role.ENTITY, partition, log.incarnation))
        yield StoredValue(keys.state(entity.value, key), content, STATE_LIFE_S)
