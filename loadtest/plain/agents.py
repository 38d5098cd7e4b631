"""What the agents do with one event: the card's decision, and a shared entity's counts.

At least once: Faust acknowledges an event after its handler, and flushes its producer before it
commits. There is no guard against a repeated or conflicting row.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from feast import FeatureStore

from fraudstream.features.catalogue import SHARED_ENTITIES
from fraudstream.features.codec import ENTITY_OF_KIND, EntityKeys, entity_keys, log_key
from fraudstream.telemetry import TRACEPARENT, TraceContext
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.features_pb2 import EntityRow
from fraudstream.v1.scoring_pb2 import FeatureRow
from loadtest.plain.one_row import Stored, compute_row, count_row, entity_rows_of, request_of
from loadtest.plain.rpc import METHOD
from loadtest.plain.views import (
    CARD_KEY,
    CARD_VIEW,
    DECIDING_SERVICE,
    SHARED_NAMES,
    row_frame,
)
from services.scoring.alerts import build_alert
from services.scoring.decide import needs_person

_SAMPLE_RATIO: Final = 0.01
_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Outputs:
    """Faust topics that the card agent writes."""

    decisions: Any
    alerts: Any
    entities: Any


class CardAgent:
    """Decides one accepted row after another."""

    def __init__(self, feast: FeatureStore, scorer: str, outputs: Outputs) -> None:
        self._feast = feast
        self._service = feast.get_feature_service(DECIDING_SERVICE)
        self._outputs = outputs
        self._channel = grpc.aio.insecure_channel(scorer, [("grpc.enable_retries", 0)])
        self._score = self._channel.unary_unary(
            METHOD,
            request_serializer=FeatureRow.SerializeToString,
            response_deserializer=Decision.FromString,
        )

    async def handle(self, event: Any) -> None:
        """Read states, compute, have it scored, write the state, send the outputs."""
        started_us = time.time_ns() // 1_000
        accepted = AcceptedTransaction.FromString(event.value)
        transaction = accepted.transaction
        keys = entity_keys(transaction)
        computed = compute_row(accepted, keys, await self._read(transaction.card_token, keys))
        parent = TraceContext.parse(dict(event.message.headers or ()).get(TRACEPARENT))
        trace = parent.child() if parent else TraceContext.start(_SAMPLE_RATIO)
        span_us = (started_us, time.time_ns() // 1_000)
        request = request_of(accepted, computed, trace.traceparent(), span_us)
        request.offset = event.message.offset
        decision = await self._score(request, timeout=_TIMEOUT_S)
        await self._feast.write_to_online_store_async(
            CARD_VIEW,
            row_frame(
                CARD_KEY,
                transaction.card_token,
                transaction.event_time_ms,
                state=computed.state,
                vector=computed.vector,
            ),
        )
        await self._send(decision, trace)
        for row in entity_rows_of(accepted, keys, computed.is_unusual):
            key = log_key(ENTITY_OF_KIND[row.entity_kind], row.entity_key)
            await self._outputs.entities.send(key=key, value=row.SerializeToString())

    async def _read(self, card: str, keys: EntityKeys) -> Stored:
        named = zip(SHARED_ENTITIES, keys, strict=True)
        response = await self._feast.get_online_features_async(
            features=self._service,
            entity_rows={CARD_KEY: [card]} | {SHARED_NAMES[e].key: [key] for e, key in named},
        )
        found = response.to_dict()
        shared = [found[SHARED_NAMES[entity].field][0] for entity in SHARED_ENTITIES]
        return Stored(found["state"][0], shared)

    async def _send(self, decision: Decision, trace: TraceContext) -> None:
        """Send the decision and, where a person is needed, the alert; Faust sees to their arrival.

        Waiting for each acknowledgement would cost a round trip a row and no CPU to speak of.
        """
        key = decision.card_token.encode()
        headers = {TRACEPARENT: trace.traceparent().encode()}
        outputs = self._outputs
        await outputs.decisions.send(key=key, value=decision.SerializeToString(), headers=headers)
        if needs_person(decision):
            alert = build_alert(decision).SerializeToString()
            await outputs.alerts.send(key=key, value=alert, headers=headers)


class EntityAgent:
    """Moves the counts of shared entities on, one row after another."""

    def __init__(self, feast: FeatureStore) -> None:
        self._feast = feast
        self._services = {
            entity: feast.get_feature_service(names.service)
            for entity, names in SHARED_NAMES.items()
        }

    async def handle(self, event: Any) -> None:
        """Read an entity's counts, move them on, write them."""
        row = EntityRow.FromString(event.value)
        entity = ENTITY_OF_KIND[row.entity_kind]
        names = SHARED_NAMES[entity]
        response = await self._feast.get_online_features_async(
            features=self._services[entity], entity_rows={names.key: [row.entity_key]}
        )
        counts = count_row(row, response.to_dict()[names.field][0])
        await self._feast.write_to_online_store_async(
            names.view,
            row_frame(names.key, row.entity_key, row.event_time_ms, **{names.field: counts}),
        )
