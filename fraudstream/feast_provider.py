"""Feast's provider of this project: it refuses to write what the stream writes, before any work.

The online store refuses too, but `materialize` of an empty range would never reach it, and the
archive is the archive service's alone.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.base_feature_view import BaseFeatureView
from feast.infra.passthrough_provider import PassthroughProvider
from feast.infra.registry.base_registry import BaseRegistry

from fraudstream.feast_views import StreamViewIsReadOnly, is_stream_view


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


def _refuse_stream(view: BaseFeatureView) -> None:
    if is_stream_view(view):
        raise StreamViewIsReadOnly(view.name)
