"""Feast's names for the catalogue: one view an entity, all keyed by the card that was decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from feast.base_feature_view import BaseFeatureView
from feast.errors import FeastError
from feast.types import Float32
from feast.value_type import ValueType

from fraudstream.errors import FeatureSpecMismatch
from fraudstream.features import catalogue
from fraudstream.features.state import EXPIRY_D

CARD_JOIN_KEY: Final = "card_token"
SERVICE_NAME: Final = "decision_vector"
ARCHIVE_SOURCE: Final = "decisions_archive"

_WRITER: Final = "writer"
_STREAM_WRITER: Final = "services.features"
_FEATURE_SET: Final = "feature_set"
# What marks a view that the stream writes, from this software's catalogue.
STREAM_TAGS: Final = {_WRITER: _STREAM_WRITER, _FEATURE_SET: catalogue.FEATURE_SET_HASH}


class EntityRowsInvalid(FeastError):
    """Somebody asked for the features of no row, or of a row that lacks a join key."""


class StreamViewIsReadOnly(FeastError):
    """Somebody tried to write a view that the stream writes."""

    def __init__(self, view: str) -> None:
        """Say who writes the view, and what to do instead."""
        super().__init__(
            f"view {view} is written by the stream alone ({_STREAM_WRITER}), so push, materialize"
            " and writes to it are refused: two writers would overwrite each other. Send"
            " transactions to transactions.raw.v1, or rebuild the store from the log; materialize"
            " takes batch views by name (--views)"
        )


def is_stream_view(view: BaseFeatureView) -> bool:
    """Return whether the stream writes a view.

    >>> [is_stream_view(view) for view in feature_views(Path("decisions"))]
    [True, True, True, True, True, True]
    """
    return bool(view.tags.get(_WRITER) == _STREAM_WRITER)


def check_feature_set(view: FeatureView) -> None:
    """Check that a stream view was made from this software's catalogue.

    Raises:
        FeatureSpecMismatch: It was made from another one.

    >>> check_feature_set(feature_views(Path("decisions"))[0])
    """
    applied = view.tags.get(_FEATURE_SET, "none")
    if is_stream_view(view) and applied != catalogue.FEATURE_SET_HASH:
        msg = (
            f"view {view.name} was applied with feature set {applied}, this software has"
            f" {catalogue.FEATURE_SET_HASH}: run `feast -c feature_repo apply` with the version"
            " that runs"
        )
        raise FeatureSpecMismatch(msg)


def card_entity() -> Entity:
    """Return the entity that all views are keyed by.

    >>> card_entity().join_key
    'card_token'
    """
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

    >>> [view.name for view in feature_views(Path("decisions"))][:2]
    ['card_features', 'customer_features']
    """
    source = FileSource(
        name=ARCHIVE_SOURCE,
        path=str(archive),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    return [_view_of(entity, source) for entity in catalogue.Entity]


def feature_service(views: Sequence[FeatureView]) -> FeatureService:
    """Return the service that gives the whole vector.

    >>> feature_service(feature_views(Path("decisions"))).name
    'decision_vector'
    """
    return FeatureService(name=SERVICE_NAME, features=list(views))


def _view_of(entity: catalogue.Entity, archive: FileSource) -> FeatureView:
    name = f"{entity.value}_features"
    return FeatureView(
        name=name,
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
        # A push source, so that a push to the view is refused with the reason, not "not found".
        source=PushSource(name=name, batch_source=archive),
        online=True,
        tags=STREAM_TAGS,
    )
