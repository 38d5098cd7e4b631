"""The card role with a scorer that costs nothing, and the floor that it is measured against.

The floor is a batch agent that decodes the same records, reads the same keys of the store and
writes as many bytes back: it computes, judges, sends and checks nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka import ConsumerRecord

from fraudstream.broker.batch_agent import Finished, PollHandler, Records, batch_app
from fraudstream.broker.faust_process import run_until_asked
from fraudstream.broker.topic_info import Log, find_log
from fraudstream.features.catalogue import SHARED_ENTITIES
from fraudstream.features.stored_values import CARD, CARD_VALUE, entity_keys, log_key
from fraudstream.settings import KafkaSettings, RedisSettings
from fraudstream.store.shard import Role, ShardRef, pack_claim
from fraudstream.store.shard_store import (
    RECORD_LIFE_S,
    STATE_LIFE_S,
    ShardWrite,
    StateStore,
    StoredValue,
)
from fraudstream.topics import ACCEPTED, ENTITIES, partition_of
from fraudstream.transaction.identity import digest_of, identity_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Action, Decision
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest
from fraudstream.v1.transaction_pb2 import Transaction
from loadtest.workers.counting import agent_settings
from services.features.process.build import AllSettings, LateHandler, Worker
from services.features.rows.scoring_client import ScoringStub

FLOOR_GROUP: Final = "features-floor"


class InstantScoring(ScoringStub):
    """Approves every row at once, in this process."""

    def __init__(self) -> None:
        self._decision = Decision(decision_id="d", action=Action.ACTION_APPROVE)

    async def close(self) -> None:
        """Do nothing: nothing is connected."""

    async def decide(self, request: FeatureBatchRequest) -> list[Decision]:
        """Return the same decision for every row."""
        return [self._decision] * len(request.rows)


class FeaturesOnly(Worker):
    """The card role as its service wires it, but for the way to scoring."""

    def make_scoring_stub(self) -> ScoringStub:
        """Return the scorer that costs nothing."""
        return InstantScoring()


def run_features() -> None:
    """Run the card role until a signal; never returns."""
    FeaturesOnly("card", AllSettings()).run()


class FloorHandler:
    """Moves the bytes of each poll, shard by shard."""

    def __init__(self, store: StateStore, log: Log, entity_partitions: int) -> None:
        self._store = store
        self._log = log
        self._entity_partitions = entity_partitions
        self._next: dict[int, int] = {}

    def assigned(self, partitions: set[int]) -> None:
        """Forget every position."""
        del partitions
        self._next.clear()

    async def handle(self, records: Records) -> Finished:
        """Take every shard to the end of its records."""
        busy = [partition for partition, lot in records.items() if lot]
        ends = await asyncio.gather(*(self._work(p, records[p]) for p in busy))
        return dict(zip(busy, ends, strict=True))

    async def _work(self, partition: int, lot: Sequence[ConsumerRecord]) -> int:
        shard = ShardRef(Role.CARD, partition, self._log.incarnation)
        if partition not in self._next:
            self._next[partition] = (await self._store.open_shard(shard, 0)).next_offset
        rows = [AcceptedTransaction.FromString(record.value or b"").transaction for record in lot]
        names = self._store.keys(shard)
        identities = [identity_of(r.bank_id, r.card_token, r.transaction_id) for r in rows]
        states = [names.state(CARD, card) for card in dict.fromkeys(r.card_token for r in rows)]
        claims = [names.claim(identity) for identity in identities]
        known = [names.record(identity) for identity in identities]
        shared, marks = shared_keys(self._store, rows, self._entity_partitions)
        values, _ = await asyncio.gather(
            self._store.read_shard(shard, None, [*claims, *known, *states]),
            self._store.read_many(shared, marks),
        )
        cards = values[len(claims) + len(known) :]
        digests = [digest_of(row) for row in rows]
        empty = bytes(CARD_VALUE.itemsize)
        claimed = zip(claims, digests, lot, strict=True)
        written = [
            *(StoredValue(k, v or empty, STATE_LIFE_S) for k, v in zip(states, cards, strict=True)),
            *(StoredValue(c, pack_claim(d, r.offset), RECORD_LIFE_S) for c, d, r in claimed),
        ]
        end: int = lot[-1].offset + 1
        finished = [i + d for i, d in zip(identities, digests, strict=True)]
        tokens = list({row.card_token for row in rows})
        write = ShardWrite(self._next[partition], end, written, cards=tokens, finished=finished)
        await self._store.write_shard(shard, write)
        self._next[partition] = end
        return end


def shared_keys(
    store: StateStore, rows: Sequence[Transaction], partitions: int
) -> tuple[list[str], list[str]]:
    """Return the keys of all shared entities of some rows, and of their shards' high marks."""
    keys: dict[str, None] = {}
    marks: dict[str, None] = {}
    for row in rows:
        for entity, key in zip(SHARED_ENTITIES, entity_keys(row), strict=True):
            if key:
                shard = store.keys(
                    ShardRef(Role.ENTITY, partition_of(log_key(entity, key), partitions), "")
                )
                keys[shard.state(entity.value, key)] = None
                marks[shard.marks] = None
    return list(keys), list(marks)


def run_floor() -> None:
    """Run the floor until a signal; never returns."""
    kafka = KafkaSettings.read()
    log, entities = find_log(kafka, ACCEPTED), find_log(kafka, ENTITIES)

    async def connect() -> PollHandler:
        store = StateStore(RedisSettings.read())
        await store.connect()
        return FloorHandler(store, log, entities.partitions)

    run_until_asked(batch_app(kafka, agent_settings(kafka, FLOOR_GROUP), LateHandler(connect)))
