"""Feast's offline store over the archive of decisions: what each decision was made from.

`get_historical_features` joins point in time, each row of the question answered once and in its
place. Feast's own file store loses rows of the question (two of one card and time become one; those
before a card's first decision vanish), leaves open which of two decisions of one millisecond wins,
and joins every decision of a card with every row of the question.
Cost: one read of the wanted columns and cards for each source, then sorting; all in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from feast import FeatureView, FileSource, OnDemandFeatureView, RepoConfig, utils
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.dask import (
    DaskOfflineStore,
    DaskOfflineStoreConfig,
    DaskRetrievalJob,
)
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry

from fraudstream.feast_plugin.point_in_time import Ints, Timed, last_rows
from fraudstream.feast_plugin.sources import QuestionRefused, SourceRead, read_source
from fraudstream.feast_plugin.views import check_feature_set, is_stream_view

_TIME: Final = "event_timestamp"


class ArchiveOfflineStoreConfig(DaskOfflineStoreConfig):
    """Feast's configuration of the store; where the archive is, the views' source says."""

    # Feast's own class names only its own store.
    type: Literal[
        "fraudstream.feast_plugin.offline_store.ArchiveOfflineStore",
        "fraudstream.feast_archive.ArchiveOfflineStore",
    ] = "fraudstream.feast_plugin.offline_store.ArchiveOfflineStore"  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class _Question:
    """The rows to join.

    Attributes:
        rows: As they were given, with `event_timestamp` in UTC.
        is_known_only: Only rows that were known at the question's time (`created_timestamp`) count.
    """

    rows: pd.DataFrame
    is_known_only: bool


@dataclass(frozen=True, slots=True)
class _Join:
    """Views that one reading of one source answers: same keys, same age.

    Attributes:
        source: Their source.
        keys: Column of the question for each key column of the source.
        ttl: How old a row may be; zero for any age.
        is_archive: The source is the archive of decisions.
        answers: Column of the source for each column of the answer.
    """

    source: FileSource
    keys: Mapping[str, str]
    ttl: timedelta
    is_archive: bool
    answers: dict[str, str]

    def read_of(self, rows: pd.DataFrame) -> SourceRead:
        """Return what is read of the source to answer these rows."""
        asked = {column: rows[name].dropna().unique() for column, name in self.keys.items()}
        oldest = rows[_TIME].min() - self.ttl if self.ttl and len(rows) else None
        features = list(dict.fromkeys(self.answers.values()))
        return SourceRead(self.source, asked, features, oldest, self.is_archive)


class ArchiveOfflineStore(DaskOfflineStore):
    """Joins point in time from Parquet; all else is done as Feast's own file store does it."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **kwargs: Any,
    ) -> DaskRetrievalJob:
        """Return a job that answers each row with the last row of each view at or before its time.

        Args:
            config: Feast's.
            feature_views: Views that are asked for.
            feature_refs: `view:feature`, of these views.
            entity_df: Join keys and `event_timestamp` (without a time zone: UTC).
            registry: Feast's.
            project: Feast's.
            full_feature_names: Name columns `view__feature`.
            filter_by_created_timestamp: Pass over rows that became known after the question's time.
            **kwargs: Refused: a question is always made of rows.

        Raises:
            QuestionRefused: Rows, or a time in them, are missing; or the archive is not there.
            FeatureSpecMismatch: A view was applied with another catalogue.
        """
        question = _Question(_checked(entity_df, kwargs), filter_by_created_timestamp)
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        wanted, _ = utils._get_requested_feature_views_to_features_dict(
            feature_refs, feature_views, on_demand
        )
        joins = _joins_of(wanted, full_feature_names)
        times = question.rows[_TIME]
        return _ArchiveJob(
            lambda: _answer(question, joins, config.repo_path),
            full_feature_names=full_feature_names,
            repo_path=str(config.repo_path),
            on_demand_feature_views=on_demand,
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in question.rows.columns if name != _TIME],
                min_event_timestamp=times.min(),
                max_event_timestamp=times.max(),
            ),
        )


class _ArchiveJob(DaskRetrievalJob):
    """A join that runs when its answer is asked for."""

    evaluation_function: Callable[[], pa.Table]

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        del timeout
        answer: pd.DataFrame = self.evaluation_function().to_pandas()
        return answer

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        del timeout
        return self.evaluation_function()


def _checked(rows: object, further: Mapping[str, Any]) -> pd.DataFrame:
    """Return the question's rows with their times in UTC."""
    if not isinstance(rows, pd.DataFrame) or any(v is not None for v in further.values()):
        msg = "expected entity_df, a pandas DataFrame; start_date and end_date are not supported"
        raise QuestionRefused(msg)
    if _TIME not in rows.columns:
        msg = f"expected a column {_TIME} in entity_df, found {', '.join(map(str, rows.columns))}"
        raise QuestionRefused(msg)
    times = pd.to_datetime(rows[_TIME], utc=True).astype("datetime64[ns, UTC]")
    if times.isna().any():
        msg = f"{int(times.isna().sum())} rows of entity_df have no {_TIME}: expected one in each"
        raise QuestionRefused(msg)
    return rows.assign(**{_TIME: times}).reset_index(drop=True)


def _joins_of(wanted: Mapping[FeatureView, Sequence[str]], is_full: bool) -> list[_Join]:
    """Put together the views that one reading of one source can answer."""
    joins: dict[tuple[object, ...], _Join] = {}
    for view, features in wanted.items():
        check_feature_set(view)
        source, ttl = view.batch_source, view.ttl or timedelta()
        if not isinstance(source, FileSource):
            msg = f"view {view.name} has no file source: expected Parquet files"
            raise QuestionRefused(msg)
        columns = [name for name in view.join_keys if name != DUMMY_ENTITY_ID]
        keys = {name: view.projection.join_key_map.get(name, name) for name in columns}
        same = (source.name, *keys.items(), ttl)
        join = joins.setdefault(same, _Join(source, keys, ttl, is_stream_view(view), {}))
        name: str = view.projection.name_to_use()  # type: ignore[no-untyped-call]  # Feast's
        prefix = f"{name}__" if is_full else ""
        join.answers.update({f"{prefix}{feature}": feature for feature in features})
    return list(joins.values())


def _answer(question: _Question, joins: Iterable[_Join], repo_path: Any) -> pa.Table:
    """Return the question's rows, in their order, with what each join found."""
    answer = pa.Table.from_pandas(question.rows, preserve_index=False)
    asked_ns = question.rows[_TIME].to_numpy("datetime64[ns]").astype(np.int64)
    for join in joins:
        found = read_source(join.read_of(question.rows), repo_path)
        row_key, asked_key = _numbered(found.keys, question.rows[list(join.keys.values())])
        index = last_rows(
            Timed(row_key, found.time_ns),
            Timed(asked_key, asked_ns),
            join.ttl // timedelta(microseconds=1) * 1_000,
            found.known_ns if question.is_known_only else None,
        )
        taken = found.features.take(pa.array(index, mask=index < 0))
        for name, column in join.answers.items():
            answer = answer.append_column(name, taken[column])
    return answer


def _numbered(rows: pd.DataFrame, asked: pd.DataFrame) -> tuple[Ints, Ints]:
    """Number the keys of both; -1 where a part of a key is missing."""
    if not len(rows.columns):
        return np.zeros(len(rows), np.int64), np.zeros(len(asked), np.int64)
    both = pd.concat([rows, asked.set_axis(rows.columns, axis=1)], ignore_index=True)
    numbers = both.groupby(list(both.columns), sort=False, observed=True).ngroup()
    found = numbers.fillna(-1).to_numpy().astype(np.int64)
    return found[: len(rows)], found[len(rows) :]
