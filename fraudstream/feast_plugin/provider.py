"""Feast's provider of this project: it refuses to write what the stream writes, before any work.

The online store refuses too, but `materialize` of an empty range would never reach it, and the
archive is the archive service's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
from feast import FeatureService, FeatureView, OnDemandFeatureView, RepoConfig
from feast.base_feature_view import BaseFeatureView
from feast.infra.passthrough_provider import PassthroughProvider
from feast.infra.registry.base_registry import BaseRegistry
from feast.online_response import OnlineResponse
from feast.protos.feast.types.Value_pb2 import RepeatedValue

from fraudstream.feast_plugin.views import EntityRowsInvalid, StreamViewIsReadOnly, is_stream_view

# What Feast takes: rows of names and values, or columns.
EntityRows = list[dict[str, Any]] | Mapping[str, Sequence[Any] | RepeatedValue]


class StreamProvider(PassthroughProvider):
    """Reads and writes as Feast's own provider does, but never writes a stream view.

    Raises:
        StreamViewIsReadOnly: The stream is the one writer of the view (every method).
    """

    def materialize_single_feature_view(
        self,
        config: RepoConfig,
        feature_view: FeatureView | OnDemandFeatureView,
        start_date: datetime,
        end_date: datetime,
        registry: BaseRegistry,
        project: str,
        tqdm_builder: Callable[[int], Any],
        disable_event_timestamp: bool = False,
    ) -> None:
        """Copy a batch view's rows from its source to the online store."""
        _refuse_stream(feature_view)
        super().materialize_single_feature_view(
            config,
            feature_view,
            start_date,
            end_date,
            registry,
            project,
            tqdm_builder,
            disable_event_timestamp,
        )

    def get_online_features(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: EntityRows,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Return the newest features of entity rows.

        Raises:
            EntityRowsInvalid: There is no row, or one without a value for a join key.
        """
        check_entity_rows(entity_rows)
        return super().get_online_features(
            config,
            features,
            entity_rows,
            registry,
            project,
            full_feature_names,
            include_feature_view_version_metadata,
        )

    async def get_online_features_async(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: EntityRows,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Return what `get_online_features` returns, within an event loop."""
        check_entity_rows(entity_rows)
        return await super().get_online_features_async(
            config,
            features,
            entity_rows,
            registry,
            project,
            full_feature_names,
            include_feature_view_version_metadata,
        )

    def ingest_df(
        self,
        feature_view: BaseFeatureView,
        df: pd.DataFrame,
        field_mapping: dict[str, str] | None = None,
    ) -> None:
        """Write rows of a batch view to the online store."""
        _refuse_stream(feature_view)
        super().ingest_df(feature_view, df, field_mapping)

    async def ingest_df_async(
        self,
        feature_view: BaseFeatureView,
        df: pd.DataFrame,
        field_mapping: dict[str, str] | None = None,
    ) -> None:
        """Write rows of a batch view to the online store, within an event loop."""
        _refuse_stream(feature_view)
        await super().ingest_df_async(feature_view, df, field_mapping)

    def ingest_df_to_offline_store(self, feature_view: FeatureView, table: pa.Table) -> None:
        """Write rows of a batch view to its source."""
        _refuse_stream(feature_view)
        super().ingest_df_to_offline_store(feature_view, table)


def check_entity_rows(entity_rows: EntityRows) -> None:
    """Return if every row has a value for each of its join keys.

    Raises:
        EntityRowsInvalid: Feast itself would fail on it without naming row or key.

    >>> check_entity_rows([{"card_token": "a"}])
    """
    if isinstance(entity_rows, list):
        names = {name for row in entity_rows for name in row}
        columns = {name: [row.get(name) for row in entity_rows] for name in sorted(names)}
    else:
        columns = {
            key: list(found.val if isinstance(found, RepeatedValue) else found)
            for key, found in entity_rows.items()
        }
    if not any(columns.values()):
        raise EntityRowsInvalid("expected at least one entity row, found none")
    for key, found in columns.items():
        for number, content in enumerate(found):
            if content is None:
                raise EntityRowsInvalid(f"entity row {number}: expected a {key}, found none")


def _refuse_stream(view: BaseFeatureView) -> None:
    if is_stream_view(view):
        raise StreamViewIsReadOnly(view.name)
