"""Feast's names for the catalogue: one view an entity, all keyed by the card that was decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float32
from feast.value_type import ValueType

from fraudstream.features import catalogue
from fraudstream.features.state import EXPIRY_D

CARD_JOIN_KEY = "card_token"
SERVICE_NAME = "decision_vector"


def card_entity() -> Entity:
    """Return the entity that all views are keyed by."""
    return Entity(
        name="card",
        join_keys=[CARD_JOIN_KEY],
        value_type=ValueType.STRING,
        description="A payment card, by its token",
    )


def feature_views(archive: Path) -> list[FeatureView]:
    """Return one view for each entity of the catalogue: the vector of a card's last decision.

    Args:
        archive: Folder of archived decisions, the views' offline source.
    """
    source = FileSource(
        name="decisions_archive",
        path=str(archive),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    return [
        FeatureView(
            name=f"{entity.value}_features",
            entities=[card_entity()],
            ttl=timedelta(days=EXPIRY_D),
            schema=[
                Field(
                    name=feature.name,
                    dtype=Float32,
                    description=f"{feature.description} ({feature.unit})",
                    tags={"hash": f"{feature.hash:016x}"},
                )
                for feature in catalogue.CATALOGUE
                if feature.entity is entity
            ],
            source=source,
            online=True,
            tags={"writer": "services.features", "feature_set": catalogue.FEATURE_SET_HASH},
        )
        for entity in catalogue.Entity
    ]


def feature_service(views: Sequence[FeatureView]) -> FeatureService:
    """Return the service that gives the whole vector."""
    return FeatureService(name=SERVICE_NAME, features=list(views))
