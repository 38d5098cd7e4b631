"""Feast's online store over the packed bytes: what the last decision of a card was made from.

Read only. The stream has one writer, the features service, so `push` and `materialize` are
refused. Freshness is not Feast's `ttl` (Feast ignores it online): the event timestamp that is
returned says when the vector was decided. Services never import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import redis
from feast import Entity, FeatureView, RepoConfig
from feast.errors import FeastError
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry

from fraudstream.errors import OnlineStoreUnavailable
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.codec import CARD, CARD_VALUE, unpack_values
from fraudstream.settings import RedisSettings
from fraudstream.shard import Role, ShardKeys, ShardRef
from fraudstream.store_nodes import addresses_of
from fraudstream.topics import partition_of

_Row = tuple[datetime | None, dict[str, Value] | None]


class StreamViewIsReadOnly(FeastError):
    """Somebody tried to write a view that the stream writes."""

    def __init__(self, view: str) -> None:
        """Say who writes the view, and what to do instead."""
        super().__init__(
            f"view {view} is written by the stream alone (services.features), so push and"
            " materialize are refused: two writers would overwrite each other. Send transactions"
            " to transactions.raw.v1, or rebuild the store from the log"
        )


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """Feast's configuration of the store; where it is, FRAUD_REDIS_* say."""

    type: Literal["fraudstream.feast_store.PackedOnlineStore"] = (
        "fraudstream.feast_store.PackedOnlineStore"
    )


class PackedOnlineStore(OnlineStore):
    """Serves a card's last decided vector at its event time. One read of the store a call."""

    _client: redis.Redis | redis.RedisCluster | None = None
    _settings: RedisSettings | None = None

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[_Row]:
        """Return the last decided vector of each card, `(None, None)` for an unknown one.

        Raises:
            OnlineStoreUnavailable: The store does not answer in time, or holds no shard.
        """
        del config
        cards = [key.entity_values[0].string_val for key in entity_keys]
        names = requested_features or [field.name for field in table.features]
        places = {name: FEATURE_NAMES.index(name) for name in names}
        try:
            stored = self._read(self._keys_of(cards))
        except redis.RedisError as exc:
            msg = f"the online store did not answer: {type(exc).__name__}"
            raise OnlineStoreUnavailable(msg) from exc
        values = unpack_values(stored, CARD_VALUE)
        return [
            (None, None) if value is None else _row_of(value_row, places)
            for value, value_row in zip(stored, values, strict=True)
        ]

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Any],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Refuse: the stream is the one writer."""
        del config, data, progress
        raise StreamViewIsReadOnly(table.name)

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Do nothing: the layout follows from the catalogue, not from the registry."""

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]
    ) -> None:
        """Do nothing: states belong to the stream, and outlive a registry."""

    def _connect(self) -> redis.Redis | redis.RedisCluster:
        if self._client is None:
            self._settings = settings = RedisSettings.read()
            addresses = addresses_of(settings.url.get_secret_value())
            options: dict[str, Any] = {
                "socket_timeout": settings.timeout_s,
                "socket_connect_timeout": settings.timeout_s,
                "retry": Retry(NoBackoff(), 0),
            }
            if settings.is_cluster:
                places = [urlsplit(address) for address in addresses]
                nodes = [
                    ClusterNode(p.hostname, p.port or 6379)  # type: ignore[no-untyped-call]
                    for p in places
                ]
                self._client = redis.RedisCluster(url=addresses[0], startup_nodes=nodes, **options)
            else:
                self._client = redis.Redis.from_url(addresses[0], **options)
        return self._client

    def _read(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read values: one round trip, or one for each slot of a cluster."""
        client: Any = self._connect()
        is_cluster = isinstance(client, redis.RedisCluster)
        found: list[bytes | None] = client.mget_nonatomic(keys) if is_cluster else client.mget(keys)
        return found

    def _keys_of(self, cards: Sequence[str]) -> list[str]:
        """Return the state keys of cards, in the generation that each shard's marker names."""
        prefix = (self._settings or RedisSettings.read()).key_prefix
        first = self._marker(ShardKeys(prefix, ShardRef(Role.CARD, 0, "")))
        partitions = int(first["incarnation"].rpartition(":")[2])
        keys, shards = [], {}
        for card in cards:
            partition = partition_of(card.encode(), partitions)
            if partition not in shards:
                marker = self._marker(ShardKeys(prefix, ShardRef(Role.CARD, partition, "")))
                shard = ShardRef(Role.CARD, partition, marker["incarnation"], marker["generation"])
                shards[partition] = ShardKeys(prefix, shard)
            keys.append(shards[partition].state(CARD, card))
        return keys

    def _marker(self, names: ShardKeys) -> dict[str, str]:
        fields: Any = self._connect().hgetall(names.marker)
        if not fields:
            msg = f"no marker {names.marker}: no features worker has opened this shard"
            raise OnlineStoreUnavailable(msg)
        return {name.decode(): content.decode() for name, content in fields.items()}


def _row_of(value: Any, places: dict[str, int]) -> _Row:
    """Return one card's vector as Feast wants it; a missing value stays unset."""
    vector = value["vector"]
    decided = datetime.fromtimestamp(int(value["decided_ms"]) / 1000, UTC)
    row = {}
    for name, place in places.items():
        number = float(vector[place])
        row[name] = Value() if number != number else Value(float_val=number)
    return decided, row
