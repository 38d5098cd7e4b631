"""Feast's online store over the packed bytes: what the last decision of a card was made from.

Stream views are read only: the stream has one writer, the features service. Other views are batch
views, with rows of their own that `materialize` and `push` write. All views of one call are read
together, so a vector is never put together from two decisions. Freshness is not Feast's `ttl`
(Feast ignores it online): the event timestamp that is returned says when the vector was decided.
Services never import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from feast import Entity, FeatureView, RepoConfig, utils
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.repo_config import FeastConfigBaseModel

from fraudstream.feast_plugin.keys import batch_key, batch_pattern, read_cards
from fraudstream.feast_plugin.rows import (
    AGE_BYTES,
    Row,
    WrittenRow,
    age_of,
    batch_row,
    card_row,
    newest_rows,
)
from fraudstream.feast_plugin.store_client import Plan, StoreLink
from fraudstream.feast_plugin.views import StreamViewIsReadOnly, check_feature_set, is_stream_view
from fraudstream.settings import RedisSettings


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """Feast's configuration of the store; where it is, FRAUD_REDIS_* say."""

    type: Literal[
        "fraudstream.feast_plugin.online_store.PackedOnlineStore",
        "fraudstream.feast_store.PackedOnlineStore",
    ] = "fraudstream.feast_plugin.online_store.PackedOnlineStore"


@dataclass(frozen=True, slots=True)
class _ViewRead:
    """What is read of one view.

    Attributes:
        view: The view.
        names: Its features that are wanted.
        keys: Distinct entity keys.
        indices: Rows of the answer that each key stands in.
        rows: Number of rows of the answer.
    """

    view: FeatureView
    names: list[str]
    keys: list[EntityKey]
    indices: Sequence[list[int]] = ()
    rows: int = 0

    @property
    def cards(self) -> list[str]:
        """Return the card tokens of a stream view's keys."""
        return [key.entity_values[0].string_val for key in self.keys]


class PackedOnlineStore(OnlineStore):
    """Serves a card's last decided vector at its event time, and the rows of batch views.

    Raises:
        OnlineStoreUnavailable: The store does not answer in time.
        ShardClosed: A shard is not open.
        FeatureSpecMismatch: A view was applied with another catalogue.
    """

    _settings: RedisSettings | None = None
    _opened: StoreLink | None = None

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Say that reads and writes have an asyncio form."""
        return SupportedAsyncMethods(read=True, write=True)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Row]:
        """Return the row of each entity key, `(None, None)` for an unknown one."""
        del config
        read = _ViewRead(table, _names_of(table, requested_features), entity_keys)
        return self._link().run(_read_views(self._prefix(), [read]))[0]

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Row]:
        """Return what `online_read` returns, within an event loop."""
        del config
        read = _ViewRead(table, _names_of(table, requested_features), entity_keys)
        return (await self._link().run_async(_read_views(self._prefix(), [read])))[0]

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[WrittenRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows of a batch view, each if it is not older than what is stored.

        One writer a view at a time: between two of them the last one wins.

        Raises:
            StreamViewIsReadOnly: The stream is the one writer of this view.
        """
        del config
        self._link().run(_write_rows(self._prefix(), table, data))
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[WrittenRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Do what `online_write_batch` does, within an event loop."""
        del config
        await self._link().run_async(_write_rows(self._prefix(), table, data))
        if progress:
            progress(len(data))

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Delete the rows of batch views that are gone; nothing needs to be made for new ones."""
        del config, tables_to_keep, entities_to_delete, entities_to_keep, partial
        self._forget(tables_to_delete)

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]
    ) -> None:
        """Delete the rows of batch views; states belong to the stream, and outlive a registry."""
        del config, entities
        self._forget(tables)

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()
            self._opened = None

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """Read all views of a call together (Feast's hook for stores that can)."""
        del config
        reads = _reads_of(grouped_refs, join_key_values, entity_name_to_join_key_map)
        found = self._link().run(_read_views(self._prefix(), reads))
        style = (full_feature_names, include_feature_view_version_metadata)
        _fill_response(online_features_response, reads, found, style)

    async def _read_features_per_fv_async(
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """Read all views of a call together, within an event loop."""
        del config
        reads = _reads_of(grouped_refs, join_key_values, entity_name_to_join_key_map)
        found = await self._link().run_async(_read_views(self._prefix(), reads))
        style = (full_feature_names, include_feature_view_version_metadata)
        _fill_response(online_features_response, reads, found, style)

    def _forget(self, views: Iterable[FeatureView]) -> None:
        patterns = [
            batch_pattern(self._prefix(), view.name) for view in views if not is_stream_view(view)
        ]
        if patterns:
            self._link().drop(patterns)

    def _prefix(self) -> str:
        self._settings = self._settings or RedisSettings.read()
        return self._settings.key_prefix

    def _link(self) -> StoreLink:
        self._settings = self._settings or RedisSettings.read()
        self._opened = self._opened or StoreLink(self._settings)
        return self._opened


def _read_views(prefix: str, reads: Sequence[_ViewRead]) -> Plan[list[list[Row]]]:
    """Read views together: the rows of each view, in the order of its keys."""
    streams = [read for read in reads if is_stream_view(read.view)]
    for read in streams:
        check_feature_set(read.view)
    cards = list(dict.fromkeys(card for read in streams for card in read.cards))
    values = yield from read_cards(prefix, cards)
    keys = {
        batch_key(prefix, read.view.name, key): None
        for read in reads
        if not is_stream_view(read.view)
        for key in read.keys
    }
    stored = dict.fromkeys(keys, b"")
    if keys:
        answers = yield [("GET", key) for key in keys]
        stored = dict(zip(keys, answers, strict=True))
    return [
        [card_row(values[card], read.names) for card in read.cards]
        if is_stream_view(read.view)
        else [
            batch_row(stored[batch_key(prefix, read.view.name, key)], read.names)
            for key in read.keys
        ]
        for read in reads
    ]


def _write_rows(prefix: str, view: FeatureView, rows: Sequence[WrittenRow]) -> Plan[None]:
    """Write the newest row of each key, if it is not older than the stored one."""
    if is_stream_view(view):
        raise StreamViewIsReadOnly(view.name)
    packed = newest_rows([batch_key(prefix, view.name, row[0]) for row in rows], rows)
    if not packed:
        return
    stored = yield [("GETRANGE", key, 0, AGE_BYTES - 1) for key in packed]
    fresh = [
        ("SET", key, row)
        for (key, row), old in zip(packed.items(), stored, strict=True)
        if age_of(row) >= age_of(old)
    ]
    if fresh:
        yield fresh


def _names_of(view: FeatureView, wanted: list[str] | None) -> list[str]:
    return wanted or [field.name for field in view.features]


def _reads_of(
    wanted: Sequence[tuple[FeatureView, list[str]]],
    join_key_values: dict[str, Any],
    join_keys: dict[str, str],
) -> list[_ViewRead]:
    """Return what a call reads: each view's distinct keys, and the rows that they stand in."""
    reads = []
    for view, names in wanted:
        distinct, indices, rows = utils._get_unique_entities(view, join_key_values, join_keys)
        keys = utils._get_entity_key_protos(distinct)
        reads.append(_ViewRead(view, names, keys, indices, rows))
    return reads


def _fill_response(
    response: Any,
    reads: Sequence[_ViewRead],
    found: Sequence[list[Row]],
    style: tuple[bool, bool],
) -> None:
    """Write the rows into Feast's response; `style`: full feature names, version metadata."""
    is_full, has_versions = style
    for read, rows in zip(reads, found, strict=True):
        utils._populate_response_from_feature_data(
            read.names, rows, read.indices, response, is_full, read.view, read.rows, has_versions
        )
