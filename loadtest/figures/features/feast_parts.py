"""The whole catalogue as one view of floats in Feast."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from feast import Entity, FeatureStore
from feast.types import Float32
from feast.value_type import ValueType

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.settings import RedisSettings
from loadtest.figures.features.join_vs_feast import CARD_KEY
from loadtest.plain.feast_parts import feature_view, open_feast

VIEW: Final = "card_features"
# Every feature by the name that Feast's reads take.
REFERENCES: Final = [f"{VIEW}:{name}" for name in FEATURE_NAMES]


def open_catalogue(folder: Path, source: Path, redis: RedisSettings) -> FeatureStore:
    """Return Feast with its view registered, over a Parquet file of the features."""
    folder.mkdir(parents=True, exist_ok=True)
    store = open_feast(folder, redis)
    card = Entity(name="card", join_keys=[CARD_KEY], value_type=ValueType.STRING)
    store.apply([card, feature_view(VIEW, card, dict.fromkeys(FEATURE_NAMES, Float32), source)])
    return store
