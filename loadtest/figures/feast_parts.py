"""Feast as its documentation sets it up, with the whole catalogue as one view of floats."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float32
from feast.value_type import ValueType

from fraudstream.feast_views import STREAM_TAGS
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.state import EXPIRY_D
from loadtest.figures.feast_keys import CARD_KEY, TIME

VIEW: Final = "card_features"
# Every feature by the name that Feast's reads take.
REFERENCES: Final = [f"{VIEW}:{name}" for name in FEATURE_NAMES]


def open_feast(folder: Path, source: Path, redis_address: str) -> FeatureStore:
    """Return Feast over a file registry with its view registered.

    Args:
        folder: Where the registry goes.
        source: Parquet file of the features, for the offline store.
        redis_address: Of the online store, host:port.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry={"registry_type": "file", "path": str(folder / "registry.db")},
            online_store={"type": "redis", "connection_string": redis_address},
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )
    card = Entity(name="card", join_keys=[CARD_KEY], value_type=ValueType.STRING)
    view = FeatureView(
        name=VIEW,
        entities=[card],
        ttl=timedelta(days=EXPIRY_D),
        schema=[Field(name=name, dtype=Float32) for name in FEATURE_NAMES],
        source=FileSource(name="features", path=str(source), timestamp_field=TIME),
        online=True,
        tags=STREAM_TAGS,  # our store asks for them, Feast's does not
    )
    store.apply([card, view])
    return store
