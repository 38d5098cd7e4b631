"""The parts of the tuned composition: stock parts at their best, without our guarantees.

One pipelined read of Redis for up to 64 events, one pipelined write, and aiokafka's own batches for
the outputs, acknowledged before Faust acknowledges the events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import redis.asyncio as redis

from fraudstream.broker.clients import BatchProducer, OutRecord
from fraudstream.settings import KafkaSettings, RedisSettings
from fraudstream.store.shard_store import STATE_LIFE_S
from fraudstream.telemetry.trace_context import TRACEPARENT
from fraudstream.topics import ALERTS, DECISIONS, ENTITIES, Topic, partition_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from loadtest.plain.rows import Computed, Keyed, Shared, Stored


class TunedParts:
    """Redis and aiokafka."""

    def __init__(self, store: RedisSettings, kafka: KafkaSettings) -> None:
        self._redis = redis.Redis.from_url(store.address())
        self._kafka = kafka
        self._producer = BatchProducer(kafka)
        self._partitions: dict[str, int] = {}

    async def connect(self) -> None:
        """Connect, and look at the topics."""
        await self._producer.start()
        for topic in (DECISIONS, ALERTS, ENTITIES):
            name = self._kafka.topic(topic)
            self._partitions[name] = await self._producer.partitions(name)

    async def read(self, cards: Sequence[str], shared: Sequence[Shared]) -> Stored:
        """Read all in one round trip."""
        keys = [_card(token) for token in cards] + [_shared(*entity) for entity in shared]
        values = cast("list[bytes | None]", await self._redis.mget(keys))
        return Stored(
            dict(zip(cards, values, strict=False)),
            dict(zip(shared, values[len(cards) :], strict=True)),
        )

    async def write_cards(
        self, rows: Sequence[AcceptedTransaction], computed: Sequence[Computed]
    ) -> None:
        """Write in one round trip."""
        named = zip((_card(row.transaction.card_token) for row in rows), computed, strict=True)
        await self._write({name: of.state for name, of in named})

    async def write_shared(self, states: dict[Shared, bytes], event_time_ms: int) -> None:
        """Write in one round trip."""
        del event_time_ms
        await self._write({_shared(*entity): state for entity, state in states.items()})

    async def _write(self, values: Mapping[str, bytes]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for key, content in values.items():
            pipeline.set(key, content, ex=STATE_LIFE_S)
        await pipeline.execute()

    async def send(self, topic: Topic, records: Sequence[Keyed]) -> None:
        """Send in batches, and wait until all are acknowledged."""
        name, out = self._kafka.topic(topic), []
        for key, value, trace in records:
            headers = [(TRACEPARENT, trace.traceparent().encode())]
            partition = partition_of(key, self._partitions[name])
            out.append(OutRecord(key, value, partition, headers=headers))
        if out:
            await self._producer.send(name, out)


def _card(token: str) -> str:
    return f"card:{token}"


def _shared(entity: str, key: str) -> str:
    return f"{entity}:{key}"
