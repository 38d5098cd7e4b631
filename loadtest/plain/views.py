"""Feast as its documentation sets it up: entities, feature views, and a service for each read.

A view holds packed state as bytes; a card's also holds its last decided vector. Each kind of shared
entity has a view of its own, the card's labels too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Array, Bytes, FeastType, Float32
from feast.value_type import ValueType

from fraudstream.features.catalogue import SHARED_ENTITIES
from fraudstream.features.catalogue import Entity as SharedKind
from fraudstream.features.state import EXPIRY_D
from fraudstream.settings import RedisSettings

PROJECT: Final = "plain"
CARD_VIEW: Final = "card_state"
CARD_KEY: Final = "card_token"
DECIDING_SERVICE: Final = "deciding"
_TIME: Final = "event_timestamp"


def open_feast(folder: Path, redis: RedisSettings) -> FeatureStore:
    """Return Feast over a file registry and Feast's own Redis store; nothing is connected yet."""
    address = urlsplit(redis.url.get_secret_value())
    return FeatureStore(
        config=RepoConfig(
            project=PROJECT,
            provider="local",
            registry={
                "registry_type": "file",
                "path": str(folder / "registry.db"),
                "cache_ttl_seconds": 0,
            },
            online_store={
                "type": "redis",
                "connection_string": f"{address.hostname}:{address.port}",
                "skip_dedup": True,
            },
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )


@dataclass(frozen=True, slots=True)
class SharedNames:
    """What Feast calls a kind of shared entity: join key, view, the view's field, its service."""

    key: str
    view: str
    field: str
    service: str

    @classmethod
    def of(cls, kind: SharedKind) -> SharedNames:
        """Return the names of a kind."""
        return cls(f"{kind}_key", f"shared_{kind}", f"{kind}_counts", f"counting_{kind}")


SHARED_NAMES: Final = {kind: SharedNames.of(kind) for kind in SHARED_ENTITIES}


def register_views(feast: FeatureStore, folder: Path) -> None:
    """Register entities, views and services, as `feast apply` does."""
    folder.mkdir(parents=True, exist_ok=True)
    card = Entity(name="card", join_keys=[CARD_KEY], value_type=ValueType.STRING)
    card_view = _view(CARD_VIEW, card, {"state": Bytes, "vector": Array(Float32)}, folder)
    entities, views = [card], []
    for kind, names in SHARED_NAMES.items():
        entity = Entity(name=f"shared_{kind}", join_keys=[names.key], value_type=ValueType.STRING)
        entities.append(entity)
        views.append(_view(names.view, entity, {names.field: Bytes}, folder))
    deciding = FeatureService(
        name=DECIDING_SERVICE,
        features=[card_view[["state"]], *views],  # pyright: ignore[reportArgumentType]  # `[]` never gives None
    )
    counting = [
        FeatureService(name=names.service, features=[view])
        for names, view in zip(SHARED_NAMES.values(), views, strict=True)
    ]
    feast.apply([*entities, card_view, *views, deciding, *counting])


def _view(name: str, entity: Entity, fields: Mapping[str, FeastType], folder: Path) -> FeatureView:
    source = FileSource(
        name=f"{name}_source", path=str(folder / f"{name}.parquet"), timestamp_field=_TIME
    )
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(days=EXPIRY_D),
        schema=[Field(name=field, dtype=dtype) for field, dtype in fields.items()],
        source=source,
        online=True,
    )


def row_frame(key: str, value: str, event_time_ms: int, **features: object) -> pd.DataFrame:
    """Return one row as Feast takes it: entity key, features and event time.

    Args:
        key: Join key.
        value: Its value.
        event_time_ms: Epoch milliseconds.
        features: By name.
    """
    columns = {name: [content] for name, content in features.items()}
    time = pd.Timestamp(event_time_ms, unit="ms", tz="UTC")
    return pd.DataFrame({key: [value], **columns, _TIME: [time]})
