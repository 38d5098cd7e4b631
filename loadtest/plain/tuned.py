"""The tuned composition: stock parts at their best, without our guarantees.

A stock Faust agent takes 64 events at a time; one pipelined read of Redis, one run of our kernels,
one gRPC batch with one run of the engine, one pipelined write, and aiokafka's own batches for the
outputs, acknowledged before Faust acknowledges the events. Scorer, features, decision and alert are
those of `loadtest.plain`; what it lacks is the same: identities, claims, records, outbox, marker.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import grpc.aio
import redis.asyncio as redis

from fraudstream.bus import BatchProducer, OutRecord
from fraudstream.features.catalogue import FEATURE_HASHES, SEQUENCE_HASH, SHARED_ENTITIES
from fraudstream.features.codec import ENTITY_OF_KIND, EntityKeys, entity_keys, log_key
from fraudstream.settings import KafkaSettings, RedisSettings
from fraudstream.state_store import STATE_LIFE_S
from fraudstream.telemetry import TRACEPARENT, TraceContext
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, ENTITIES, Topic, partition_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.features_pb2 import EntityRow
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, FeatureRow, ScoreBatchResponse
from loadtest.plain.app import make_app, raw_topic, run_agent
from loadtest.plain.one_row import Computed, compute_rows, count_rows, entity_rows_of, request_of
from loadtest.plain.rpc import BATCH_METHOD
from loadtest.plain.settings import PlainSettings
from services.scoring.alerts import build_alert
from services.scoring.decide import needs_person

BATCH: Final = 64
# With a backlog batches are full; without one a row waits so long for others.
_WITHIN_S: Final = 0.02
_SAMPLE_RATIO: Final = 0.01
_TIMEOUT_S: Final = 10.0


def run_tuned(role: str, settings: PlainSettings, kafka: KafkaSettings) -> None:
    """Run the role `tuned` or `tuned-entity` until a signal; never returns."""
    app = make_app(role, settings.folder, kafka)
    parts = Parts(RedisSettings.read(), kafka)
    agent = TunedEntities(parts) if role == "tuned-entity" else TunedCards(parts, settings)
    source = ENTITIES if role == "tuned-entity" else ACCEPTED

    async def work(stream: Any) -> None:
        await parts.connect()
        async for events in stream.take_events(BATCH, within=_WITHIN_S):
            await agent.handle(events)

    run_agent(app, raw_topic(app, kafka.topic(source)), work)


class Parts:
    """Redis and the producer."""

    def __init__(self, store: RedisSettings, kafka: KafkaSettings) -> None:
        self._redis = redis.Redis.from_url(store.url.get_secret_value())
        self.kafka = kafka
        self.producer = BatchProducer(kafka)
        self._partitions: dict[str, int] = {}

    async def connect(self) -> None:
        """Connect, and look at the topics."""
        await self.producer.start()
        for topic in (DECISIONS, ALERTS, ENTITIES):
            name = self.kafka.topic(topic)
            self._partitions[name] = await self.producer.partitions(name)

    async def send(self, topic: Topic, keyed: Sequence[tuple[bytes, bytes, TraceContext]]) -> None:
        """Send values by key, each with its trace, and wait until all are acknowledged."""
        name = self.kafka.topic(topic)
        records = [
            OutRecord(
                key,
                value,
                partition_of(key, self._partitions[name]),
                headers=[(TRACEPARENT, trace.traceparent().encode())],
            )
            for key, value, trace in keyed
        ]
        if records:
            await self.producer.send(name, records)

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read values in one round trip."""
        return cast("list[bytes | None]", await self._redis.mget(keys))

    async def write(self, values: Mapping[str, bytes]) -> None:
        """Write values in one pipelined round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        for key, content in values.items():
            pipeline.set(key, content, ex=STATE_LIFE_S)
        await pipeline.execute()


class TunedCards:
    """Decides accepted rows, 64 at a time."""

    def __init__(self, parts: Parts, settings: PlainSettings) -> None:
        self._parts = parts
        self._scorer = f"127.0.0.1:{settings.scorer_port}"
        self._score: Any = None

    async def handle(self, events: Sequence[Any]) -> None:
        """Read, compute, have scored, write, send."""
        started_us = time.time_ns() // 1_000
        rows = [AcceptedTransaction.FromString(event.value) for event in events]
        keys = [entity_keys(row.transaction) for row in rows]
        computed = await self._compute(rows, keys)
        traces = [_trace_of(event) for event in events]
        now_us = time.time_ns() // 1_000
        decisions = await self._decide(
            [
                request_of(row, of, trace.traceparent(), (started_us, now_us))
                for row, of, trace in zip(rows, computed, traces, strict=True)
            ]
        )
        cards = zip((row.transaction.card_token for row in rows), computed, strict=True)
        await self._parts.write({_card(token): of.state for token, of in cards})
        await self._send(decisions, traces)
        entity_rows = [
            (row, trace)
            for accepted, key, of, trace in zip(rows, keys, computed, traces, strict=True)
            for row in entity_rows_of(accepted, key, of.is_unusual)
        ]
        await self._parts.send(
            ENTITIES, [(_log_key(row), row.SerializeToString(), t) for row, t in entity_rows]
        )

    async def _compute(
        self, rows: Sequence[AcceptedTransaction], keys: Sequence[EntityKeys]
    ) -> list[Computed]:
        cards = list(dict.fromkeys(row.transaction.card_token for row in rows))
        shared = list(
            dict.fromkeys(
                (entity, key)
                for of_row in keys
                for entity, key in zip(SHARED_ENTITIES, of_row, strict=True)
            )
        )
        wanted = [_card(token) for token in cards]
        wanted += [_shared(entity.value, key) for entity, key in shared]
        stored = await self._parts.read(wanted)
        return compute_rows(
            rows,
            keys,
            dict(zip(cards, stored, strict=False)),
            dict(zip(shared, stored[len(cards) :], strict=True)),
        )

    async def _decide(self, rows: Sequence[FeatureRow]) -> list[Decision]:
        if self._score is None:
            channel = grpc.aio.insecure_channel(self._scorer, [("grpc.enable_retries", 0)])
            self._score = channel.unary_unary(
                BATCH_METHOD,
                request_serializer=FeatureBatchRequest.SerializeToString,
                response_deserializer=ScoreBatchResponse.FromString,
            )
        request = FeatureBatchRequest(
            rows=rows, feature_hashes=FEATURE_HASHES, sequence_hash=SEQUENCE_HASH
        )
        response = await self._score(request, timeout=_TIMEOUT_S)
        return [result.decision for result in response.results]

    async def _send(self, decisions: Sequence[Decision], traces: Sequence[TraceContext]) -> None:
        traced = list(zip(decisions, traces, strict=True))
        await self._parts.send(
            DECISIONS, [(d.card_token.encode(), d.SerializeToString(), t) for d, t in traced]
        )
        await self._parts.send(
            ALERTS,
            [
                (d.card_token.encode(), build_alert(d).SerializeToString(), t)
                for d, t in traced
                if needs_person(d)
            ],
        )


class TunedEntities:
    """Moves the counts of shared entities on, 64 rows at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def handle(self, events: Sequence[Any]) -> None:
        """Read the entities' counts, move them on, write them."""
        rows = [EntityRow.FromString(event.value) for event in events]
        lots: dict[int, list[EntityRow]] = {}
        for row in rows:
            lots.setdefault(row.entity_kind, []).append(row)
        names = {
            kind: list(dict.fromkeys(row.entity_key for row in lot)) for kind, lot in lots.items()
        }
        wanted = [_shared(_entity_name(kind), key) for kind in lots for key in names[kind]]
        stored = iter(await self._parts.read(wanted))
        values: dict[str, bytes] = {}
        for kind, lot in lots.items():
            counted = count_rows(lot, {key: next(stored) for key in names[kind]})
            values |= {_shared(_entity_name(kind), key): state for key, state in counted.items()}
        await self._parts.write(values)


def _trace_of(event: Any) -> TraceContext:
    parent = TraceContext.parse(dict(event.message.headers or ()).get(TRACEPARENT))
    return parent.child() if parent else TraceContext.start(_SAMPLE_RATIO)


def _log_key(row: EntityRow) -> bytes:
    return log_key(ENTITY_OF_KIND[row.entity_kind], row.entity_key)


def _entity_name(kind: int) -> str:
    return ENTITY_OF_KIND[kind].value  # type: ignore[index]  # the enum's numbers are its type


def _card(token: str) -> str:
    return f"card:{token}"


def _shared(entity: str, key: str) -> str:
    return f"{entity}:{key}"
