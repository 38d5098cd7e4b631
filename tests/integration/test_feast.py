"""Feast serves the bytes that the features service writes, and writes nothing itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore

from demo.servers import ValkeyServer
from fraudstream.feast_store import StreamViewIsReadOnly
from fraudstream.features.catalogue import CATALOGUE, FEATURE_NAMES
from fraudstream.features.codec import CARD, CARD_VALUE
from fraudstream.settings import RedisSettings
from fraudstream.shard import Role, ShardRef
from fraudstream.state_store import ShardWrite, StateStore, StoredValue
from fraudstream.topics import partition_of

_ROOT = Path(__file__).parent.parent.parent
_DECIDED_MS = 1_700_000_000_000
_VECTOR = np.arange(len(CATALOGUE), dtype=np.float32)


@pytest.fixture(scope="module")
def environment(valkey: ValkeyServer) -> Iterator[Mapping[str, str]]:
    """Point this process at the test's store, under a prefix of its own."""
    found = {**valkey.environment(), "FRAUD_REDIS_KEY_PREFIX": "feast"}
    with pytest.MonkeyPatch.context() as patch:
        for name, setting in found.items():
            patch.setenv(name, setting)
        yield found


async def _write_card(token: str) -> None:
    """Write a card as the features service does."""
    store = StateStore(RedisSettings.read(), lambda: int(time.time() * 1000))
    await store.connect()
    partition = partition_of(token.encode(), 4)
    for number in range(4):
        await store.open_shard(ShardRef(Role.CARD, number, "ab:4"), 0)
    shard = ShardRef(Role.CARD, partition, "ab:4")
    value = np.zeros(1, CARD_VALUE)
    value["vector"], value["decided_ms"] = _VECTOR, _DECIDED_MS
    value["vector"][0, 1] = np.nan
    stored = StoredValue(store.keys(shard).state(CARD, token), value.tobytes(), 60)
    at = (await store.marker(shard)).next_offset  # type: ignore[union-attr]  # just opened
    await store.write_shard(shard, ShardWrite(at, at + 1, [stored]))
    await store.close()


@pytest.fixture(scope="module")
def feast_store(
    environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    """A repository of these tests, applied by Feast's own command."""
    tmp_path = tmp_path_factory.mktemp("feast")
    for file in (_ROOT / "feature_repo").glob("*.*"):
        text = file.read_text().replace("../var/feast/registry.db", str(tmp_path / "registry.db"))
        (tmp_path / file.name).write_text(text)
    applied = subprocess.run(
        [sys.executable, "-m", "feast.cli.cli", "-c", str(tmp_path), "apply"],
        env={**os.environ, **environment, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, applied.stderr
    return FeatureStore(str(tmp_path))


async def test_feast_returns_the_last_decided_vector_at_its_event_time(
    feast_store: FeatureStore,
) -> None:
    """The registered views give back, feature by feature, what the stream wrote."""
    await _write_card("bank.k1.card")

    answer = feast_store.get_online_features(
        features=feast_store.get_feature_service("decision_vector"),
        entity_rows=[{"card_token": "bank.k1.card"}, {"card_token": "nobody"}],
    ).to_dict()

    found = [answer[name][0] for name in FEATURE_NAMES]
    assert found[0] == 0.0
    assert found[1] is None
    assert found[2:] == _VECTOR[2:].tolist()
    assert {answer[name][1] for name in FEATURE_NAMES} == {None}


def test_feast_refuses_to_write_what_the_stream_writes(feast_store: FeatureStore) -> None:
    """A second writer is turned away with a message that names the first."""
    row = pd.DataFrame({"card_token": ["x"], "event_timestamp": [pd.Timestamp.now("UTC")]})
    row["created_timestamp"] = row["event_timestamp"]
    for feature in CATALOGUE:
        if feature.entity.value == "card":
            row[feature.name] = 0.0

    with pytest.raises(StreamViewIsReadOnly, match=r"services\.features"):
        feast_store.write_to_online_store("card_features", row)
