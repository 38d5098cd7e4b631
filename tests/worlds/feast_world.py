"""A Feast repository of a test, cards as the features service writes them, and an archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureService, FeatureStore

from fraudstream.archive.batches import LogRows, decision_batch
from fraudstream.archive.files import file_path
from fraudstream.feast_plugin.views import card_entity, feature_service, feature_views
from fraudstream.features.catalogue import FEATURE_NAMES, FEATURE_SET_HASH
from fraudstream.features.stored_values import CARD, CARD_VALUE
from fraudstream.settings import RedisSettings
from fraudstream.store.shard import Role, ShardRef
from fraudstream.store.shard_store import ShardWrite, StateStore, StoredValue
from fraudstream.topics import partition_of
from fraudstream.v1.decision_pb2 import Decision
from harness.processes import PROJECT_FOLDER

REPOSITORY: Final = PROJECT_FOLDER / "feature_repo"
PARTITIONS: Final = 4
INCARNATION: Final = f"ab:{PARTITIONS}"
DECIDED_MS: Final = 1_700_000_000_000
LOG: Final = "0a"

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Decided:
    """The last decision of a card."""

    vector: Vector
    event_ms: int


@dataclass(frozen=True)
class FeastWorld:
    """Feast's entry point with all stream views applied, and where its archive lies."""

    store: FeatureStore
    decisions: Path

    @property
    def service(self) -> FeatureService:
        """The service that gives the whole vector."""
        return self.store.get_feature_service("decision_vector")

    def online(self, cards: Sequence[str]) -> list[Vector]:
        """Return what `get_online_features` answers, one vector a card; NaN for null."""
        rows = [{"card_token": card} for card in cards]
        return vectors_in(self.store.get_online_features(self.service, rows).to_dict())

    async def online_async(self, cards: Sequence[str]) -> list[Vector]:
        """Return what `get_online_features_async` answers, one vector a card; NaN for null."""
        rows = [{"card_token": card} for card in cards]
        answer = await self.store.get_online_features_async(self.service, rows)
        return vectors_in(answer.to_dict())


def make_world(folder: Path) -> FeastWorld:
    """Apply the project's views to a registry under `folder`; the environment says the rest."""
    repository, decisions = folder / "feature_repo", folder / "archive" / "decisions"
    repository.mkdir()
    (folder / "var").mkdir()
    (repository / "feature_store.yaml").write_text((REPOSITORY / "feature_store.yaml").read_text())
    store = FeatureStore(str(repository))
    views = feature_views(decisions)
    store.apply([card_entity(), *views, feature_service(views)])
    return FeastWorld(store, decisions)


def vectors_in(answer: Mapping[str, list[Any]]) -> list[Vector]:
    """Return the vectors of an answer, in the catalogue's order; NaN for null."""
    columns = [np.array(answer[name], np.float32) for name in FEATURE_NAMES]
    return list(np.stack(columns, axis=1))


def is_same(found: npt.ArrayLike, expected: npt.ArrayLike) -> bool:
    """Return whether vectors are equal to the bit; a missing value equals a missing value."""
    left, right = (np.ascontiguousarray(vector, np.float32) for vector in (found, expected))
    missing = np.isnan(right)
    equal = left.view(np.uint32) == right.view(np.uint32)
    return left.shape == right.shape and bool(np.all(np.where(missing, np.isnan(left), equal)))


async def write_cards(cards: Mapping[str, Decided]) -> None:
    """Open all shards, and write cards as the features service does."""
    store = StateStore(RedisSettings.read())
    await store.connect()
    for partition in range(PARTITIONS):
        shard = ShardRef(Role.CARD, partition, INCARNATION)
        at = (await store.open_shard(shard, 0)).next_offset
        own = [card for card in cards if partition_of(card.encode(), PARTITIONS) == partition]
        names = store.keys(shard)
        values = [StoredValue(names.state(CARD, c), _packed(cards[c]), 60) for c in own]
        await store.write_shard(shard, ShardWrite(at, at + 1, values))
    await store.close()


def _packed(decided: Decided) -> bytes:
    value = np.zeros(1, CARD_VALUE)
    value["vector"], value["decided_ms"] = decided.vector, decided.event_ms
    return value.tobytes()


def decision(
    number: int, card: str, decided: Decided, feature_set: str = FEATURE_SET_HASH
) -> Decision:
    """Return a decision as scoring publishes it, as far as Feast looks at it."""
    return Decision(
        decision_id=f"{number:032x}",
        card_token=card,
        event_time_ms=decided.event_ms,
        feature_set_hash=feature_set,
        vector=decided.vector.tobytes(),
    )


def archive_decisions(
    folder: Path, decisions: Sequence[Decision], first: int = 0, appended_ms: Sequence[int] = ()
) -> None:
    """Write decisions, in the order of the log, as the archive does: a file a partition and day."""
    times = appended_ms or [message.event_time_ms for message in decisions]
    chunks: dict[tuple[int, Any], list[int]] = {}
    for place, message in enumerate(decisions):
        day = datetime.fromtimestamp(times[place] / 1000, UTC).date()
        partition = partition_of(message.card_token.encode(), PARTITIONS)
        chunks.setdefault((partition, day), []).append(place)
    for (partition, day), places in chunks.items():
        offsets = [first + place for place in places]
        rows = LogRows(partition, offsets, [times[place] for place in places])
        batch = decision_batch([decisions[place] for place in places], rows)
        path = file_path(folder, LOG, day, (partition, offsets[0], offsets[-1]))
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_batches([batch]), path, compression="zstd")
