"""What the agents do with events: decide cards' rows, and move the counts of shared entities on.

The plain composition takes one event at a time, the tuned one up to 64; what they do is the same,
by other parts. At least once: Faust acknowledges events after their handler, and flushes its
producer before it commits. There is no guard against a repeated or conflicting row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from fraudstream.broker.faust_process import run_until_asked
from fraudstream.features.stored_values import entity_keys, log_key
from fraudstream.runtime.clock import epoch_us
from fraudstream.runtime.readiness import say_ready
from fraudstream.settings import KafkaSettings, RedisSettings
from fraudstream.telemetry.trace_context import TRACEPARENT, TraceContext
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, ENTITIES
from fraudstream.transaction.actions import needs_person
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.features_pb2 import EntityRow
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, FeatureRow, ScoreBatchResponse
from loadtest.plain import rows as of_rows
from loadtest.plain.app import make_app, raw_topic
from loadtest.plain.settings import METHOD, PlainSettings
from services.scoring.publishing.alert import build_alert

if TYPE_CHECKING:
    from loadtest.plain.feast_parts import FeastParts
    from loadtest.plain.tuned_parts import TunedParts

    # Store and producer: Feast's and Faust's own, or Redis and aiokafka at their best.
    Parts = FeastParts | TunedParts

BATCH: Final = 64
# With a backlog batches are full; without one a row waits so long for others.
_WITHIN_S: Final = 0.02
_SAMPLE_RATIO: Final = 0.01
_TIMEOUT_S: Final = 10.0


def run_agent(role: str, settings: PlainSettings) -> None:
    """Run a role until a signal; never returns."""
    kafka, store = KafkaSettings.read(), RedisSettings.read()
    app = make_app(role, settings.folder, kafka)
    parts: Parts
    is_tuned, is_entities = role.startswith("tuned"), role.endswith("entity")
    if is_tuned:
        from loadtest.plain.tuned_parts import TunedParts

        parts = TunedParts(store, kafka)
    else:
        from loadtest.plain.feast_parts import FeastParts

        topics = {t.name: raw_topic(app, kafka.topic(t)) for t in (DECISIONS, ALERTS, ENTITIES)}
        parts = FeastParts(settings.folder, store, topics)
    agent = EntityAgent(parts) if is_entities else CardAgent(parts, settings)
    source = raw_topic(app, kafka.topic(ENTITIES if is_entities else ACCEPTED))

    @app.agent(source)
    async def work(stream: Any) -> None:
        await parts.connect()
        if is_tuned:
            async for events in stream.take_events(BATCH, within=_WITHIN_S):
                await agent.handle(events)
        else:
            async for event in stream.events():
                await agent.handle([event])

    @app.on_partitions_assigned.connect
    async def announce(*_: Any, **__: Any) -> None:
        say_ready()

    run_until_asked(app)


class CardAgent:
    """Decides accepted rows."""

    def __init__(self, parts: Parts, settings: PlainSettings) -> None:
        self._parts = parts
        self._scorer = f"127.0.0.1:{settings.scorer_port}"
        self._score: Any = None

    async def handle(self, events: Sequence[Any]) -> None:
        """Read states, compute, have the rows scored, write the states, send the outputs."""
        started_us = epoch_us()
        rows = [AcceptedTransaction.FromString(event.value) for event in events]
        keys = [entity_keys(row.transaction) for row in rows]
        cards = list(dict.fromkeys(row.transaction.card_token for row in rows))
        computed = of_rows.compute_rows(
            rows, keys, await self._parts.read(cards, of_rows.shared_of(keys))
        )
        traces = [_trace_of(event) for event in events]
        now_us = epoch_us()
        decisions = await self._decide(
            [
                of_rows.request_of(row, of, trace.traceparent(), (started_us, now_us))
                for row, of, trace in zip(rows, computed, traces, strict=True)
            ]
        )
        await self._parts.write_cards(rows, computed)
        await self._send(decisions, traces)
        entity_rows = [
            (log_key(*of_rows.entity_of(row)), row.SerializeToString(), trace)
            for accepted, of_row, of, trace in zip(rows, keys, computed, traces, strict=True)
            for row in of_rows.entity_rows_of(accepted, of_row, of.is_unusual)
        ]
        await self._parts.send(ENTITIES, entity_rows)

    async def _decide(self, rows: Sequence[FeatureRow]) -> list[Decision]:
        if self._score is None:
            channel = grpc.aio.insecure_channel(self._scorer, [("grpc.enable_retries", 0)])
            self._score = channel.unary_unary(
                METHOD,
                request_serializer=FeatureBatchRequest.SerializeToString,
                response_deserializer=ScoreBatchResponse.FromString,
            )
        response = await self._score(FeatureBatchRequest(rows=rows), timeout=_TIMEOUT_S)
        return [result.decision for result in response.results]

    async def _send(self, decisions: Sequence[Decision], traces: Sequence[TraceContext]) -> None:
        """Send the decisions and, where a person is needed, alerts."""
        traced = [(d.card_token.encode(), d, t) for d, t in zip(decisions, traces, strict=True)]
        await self._parts.send(DECISIONS, [(key, d.SerializeToString(), t) for key, d, t in traced])
        alerts = [
            (key, build_alert(d).SerializeToString(), t) for key, d, t in traced if needs_person(d)
        ]
        await self._parts.send(ALERTS, alerts)


class EntityAgent:
    """Moves the counts of shared entities on."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def handle(self, events: Sequence[Any]) -> None:
        """Read the entities' counts, move them on, write them."""
        rows = [EntityRow.FromString(event.value) for event in events]
        entities = list(dict.fromkeys(map(of_rows.entity_of, rows)))
        stored = await self._parts.read([], entities)
        await self._parts.write_shared(
            of_rows.count_rows(rows, stored.shared), rows[-1].event_time_ms
        )


def _trace_of(event: Any) -> TraceContext:
    parent = TraceContext.parse(dict(event.message.headers or ()).get(TRACEPARENT))
    return parent.child() if parent else TraceContext.start(_SAMPLE_RATIO)
