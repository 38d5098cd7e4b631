"""Feast as its documentation sets it up: entities, feature views, and a service for each read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Array, Bytes, FeastType, Float32
from feast.value_type import ValueType

from fraudstream.feast_plugin.views import STREAM_TAGS
from fraudstream.features.catalogue import SHARED_ENTITIES
from fraudstream.features.state import EXPIRY_D
from fraudstream.settings import RedisSettings
from fraudstream.telemetry.trace_context import TRACEPARENT
from fraudstream.topics import Topic
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from loadtest.plain.rows import Computed, Keyed, Shared, Stored

PROJECT: Final = "plain"
CARD_VIEW: Final = "card_state"
CARD_KEY: Final = "card_token"
DECIDING_SERVICE: Final = "deciding"
TIME: Final = "event_timestamp"


def open_feast(folder: Path, redis: RedisSettings) -> FeatureStore:
    """Return Feast over a file registry and Feast's own Redis store; nothing is connected yet."""
    address = urlsplit(redis.address())
    at, registry = f"{address.hostname}:{address.port}", str(folder / "registry.db")
    config = RepoConfig(
        project=PROJECT,
        provider="local",
        registry={"registry_type": "file", "path": registry, "cache_ttl_seconds": 0},
        online_store={"type": "redis", "connection_string": at, "skip_dedup": True},
        offline_store={"type": "file"},
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


class SharedNames(NamedTuple):
    """What Feast calls a kind of shared entity: join key, view, the view's field, its service."""

    key: str
    view: str
    field: str
    service: str


SHARED_NAMES: Final = {
    kind: SharedNames(f"{kind}_key", f"shared_{kind}", f"{kind}_counts", f"counting_{kind}")
    for kind in SHARED_ENTITIES
}


def register_views(feast: FeatureStore, folder: Path) -> None:
    """Register entities, views and services, as `feast apply` does."""
    folder.mkdir(parents=True, exist_ok=True)
    card = Entity(name="card", join_keys=[CARD_KEY], value_type=ValueType.STRING)
    none = folder / "none.parquet"  # nothing is joined offline here
    fields: dict[str, FeastType] = {"state": Bytes, "vector": Array(Float32)}
    card_view = feature_view(CARD_VIEW, card, fields, none)
    entities, views = [card], []
    for kind, names in SHARED_NAMES.items():
        entity = Entity(name=f"shared_{kind}", join_keys=[names.key], value_type=ValueType.STRING)
        entities.append(entity)
        views.append(feature_view(names.view, entity, {names.field: Bytes}, none))
    deciding = FeatureService(
        name=DECIDING_SERVICE,
        features=[card_view[["state"]], *views],  # pyright: ignore[reportArgumentType]  # `[]` never gives None
    )
    counting = [
        FeatureService(name=names.service, features=[view])
        for names, view in zip(SHARED_NAMES.values(), views, strict=True)
    ]
    feast.apply([*entities, card_view, *views, deciding, *counting])


def feature_view(
    name: str, entity: Entity, fields: Mapping[str, FeastType], source: Path
) -> FeatureView:
    """Return a view of one entity, whose features for the offline store are in a Parquet file."""
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(days=EXPIRY_D),
        schema=[Field(name=field, dtype=dtype) for field, dtype in fields.items()],
        source=FileSource(name=f"{name}_source", path=str(source), timestamp_field=TIME),
        online=True,
        tags=STREAM_TAGS,  # our store asks for them, Feast's does not
    )


def open_floats(
    folder: Path, redis: RedisSettings, view: str, features: Sequence[str], source: Path
) -> FeatureStore:
    """Return Feast with one view of a card's features as floats, over a Parquet file of them."""
    folder.mkdir(parents=True, exist_ok=True)
    feast = open_feast(folder, redis)
    card = Entity(name="card", join_keys=[CARD_KEY], value_type=ValueType.STRING)
    feast.apply([card, feature_view(view, card, dict.fromkeys(features, Float32), source)])
    return feast


class FeastParts:
    """Feast's SDK over a folder and a Redis, and Faust's topics by name, one event at a time."""

    def __init__(self, folder: Path, redis: RedisSettings, topics: Mapping[str, Any]) -> None:
        self._feast = open_feast(folder, redis)
        self._topics = topics
        self._deciding = self._feast.get_feature_service(DECIDING_SERVICE)
        self._counting = {
            kind: self._feast.get_feature_service(names.service)
            for kind, names in SHARED_NAMES.items()
        }

    async def connect(self) -> None:
        """Connect to the online store."""
        await self._feast.initialize()

    async def read(self, cards: Sequence[str], shared: Sequence[Shared]) -> Stored:
        """Read a card and its entities by one service, or entities by one of their own each."""
        if not cards:
            return Stored({}, {entity: await self._read_counts(entity) for entity in shared})
        (card,) = cards
        response = await self._feast.get_online_features_async(
            features=self._deciding,
            entity_rows={CARD_KEY: [card]} | {SHARED_NAMES[of].key: [key] for of, key in shared},
        )
        found = response.to_dict()
        counts = {entity: found[SHARED_NAMES[entity[0]].field][0] for entity in shared}
        return Stored({card: found["state"][0]}, counts)

    async def _read_counts(self, entity: Shared) -> bytes | None:
        kind, key = entity
        names = SHARED_NAMES[kind]
        response = await self._feast.get_online_features_async(
            features=self._counting[kind], entity_rows={names.key: [key]}
        )
        counts: bytes | None = response.to_dict()[names.field][0]
        return counts

    async def write_cards(
        self, rows: Sequence[AcceptedTransaction], computed: Sequence[Computed]
    ) -> None:
        """Write state and vector."""
        for row, of in zip(rows, computed, strict=True):
            written = {CARD_KEY: row.transaction.card_token, "state": of.state, "vector": of.vector}
            await self._write(CARD_VIEW, written, row.transaction.event_time_ms)

    async def write_shared(self, states: dict[Shared, bytes], event_time_ms: int) -> None:
        """Write counts."""
        for (kind, key), counts in states.items():
            names = SHARED_NAMES[kind]
            await self._write(names.view, {names.key: key, names.field: counts}, event_time_ms)

    async def _write(self, view: str, row: Mapping[str, object], event_time_ms: int) -> None:
        time = pd.Timestamp(event_time_ms, unit="ms", tz="UTC")
        columns = {name: [content] for name, content in row.items()}
        await self._feast.write_to_online_store_async(view, pd.DataFrame({**columns, TIME: [time]}))

    async def send(self, topic: Topic, records: Sequence[Keyed]) -> None:
        """Hand records to Faust, which sees to their arrival before it commits."""
        for key, value, trace in records:
            headers = {TRACEPARENT: trace.traceparent().encode()}
            await self._topics[topic.name].send(key=key, value=value, headers=headers)
