"""Batch views beside the stream's: Feast writes them, and one call reads both."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import redis
from feast import Entity, FeatureView, Field, FileSource, PushSource
from feast.types import Array, Float32, Int64, String
from feast.value_type import ValueType

from fraudstream.features.catalogue import FEATURE_NAMES
from harness.servers import ValkeyServer
from tests.worlds.feast_world import DECIDED_MS, Decided, FeastWorld, make_world, write_cards

_CARD = "bank.k1.card"
_FEATURES = [
    f"card_features:{FEATURE_NAMES[0]}",
    "merchant_risk:band",
    "merchant_risk:share",
    "merchant_risk:days",
]
_DAY = timedelta(days=1)
_START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """Key prefix of this test."""
    return tmp_path.name


@pytest.fixture
def world(
    valkey: ValkeyServer, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FeastWorld:
    """The stream's views and one batch view, `merchant_risk`, with a push source."""
    for name, setting in {**valkey.environment(), "FRAUD_REDIS_KEY_PREFIX": prefix}.items():
        monkeypatch.setenv(name, setting)
    found = make_world(tmp_path)
    asyncio.run(write_cards({_CARD: Decided(np.ones(len(FEATURE_NAMES), np.float32), DECIDED_MS)}))
    source = FileSource(
        name="merchant_risk_files",
        path=str(tmp_path / "merchant_risk.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="made",
    )
    _rows([("m-1", "low", 0.1, 0), ("m-1", "high", 0.9, 2), ("m-2", "low", 0.2, 1)]).to_parquet(
        tmp_path / "merchant_risk.parquet"
    )
    merchant = Entity(name="merchant", join_keys=["merchant_key"], value_type=ValueType.STRING)
    view = FeatureView(
        name="merchant_risk",
        entities=[merchant],
        ttl=_DAY * 2,
        schema=[
            Field(name="band", dtype=String),
            Field(name="share", dtype=Float32),
            Field(name="days", dtype=Array(Int64)),
        ],
        source=PushSource(name="merchant_risk_push", batch_source=source),
    )
    found.store.apply([merchant, view])
    return found


def _rows(rows: list[tuple[str, str, float, int]]) -> pd.DataFrame:
    """Return rows of (merchant, band, share, day)."""
    frame = pd.DataFrame(rows, columns=["merchant_key", "band", "share", "day"])
    frame["event_timestamp"] = [pd.Timestamp(_START + _DAY * day) for day in frame.pop("day")]
    frame["made"] = frame["event_timestamp"]
    frame["share"] = frame["share"].astype(np.float32)
    frame["days"] = [[1, 2]] * len(frame)
    return frame


def _read(world: FeastWorld, merchant: str) -> tuple[object, ...]:
    """Return band, share and days of a merchant, read beside a card."""
    answer = world.store.get_online_features(
        _FEATURES, [{"card_token": _CARD, "merchant_key": merchant}]
    ).to_dict()
    assert answer[FEATURE_NAMES[0]] == [1.0]
    return answer["band"][0], answer["share"][0], answer["days"][0]


def test_materialize_copies_the_newest_row_of_each_key(world: FeastWorld) -> None:
    """A batch view's rows lie on their own keys, and come with the stream's in one call."""
    world.store.materialize(_START - _DAY, _START + _DAY * 3, feature_views=["merchant_risk"])

    assert _read(world, "m-1") == ("high", np.float32(0.9), [1, 2])
    assert _read(world, "m-2") == ("low", np.float32(0.2), [1, 2])
    assert _read(world, "m-3") == (None, None, None)


def test_older_row_never_replaces_a_newer_one(world: FeastWorld) -> None:
    """Neither by a later push nor by its place in one."""
    world.store.push("merchant_risk_push", _rows([("m-1", "new", 0.5, 5), ("m-1", "old", 0.4, 4)]))
    world.store.push("merchant_risk_push", _rows([("m-1", "older", 0.3, 3)]))

    assert _read(world, "m-1") == ("new", np.float32(0.5), [1, 2])


async def test_rows_written_and_read_within_an_event_loop(world: FeastWorld) -> None:
    """The asyncio forms do the same."""
    await world.store.write_to_online_store_async("merchant_risk", _rows([("m-9", "mid", 0.5, 1)]))

    answer = await world.store.get_online_features_async(
        _FEATURES, [{"card_token": _CARD, "merchant_key": "m-9"}]
    )
    assert answer.to_dict()["band"] == ["mid"]
    assert answer.to_dict()[FEATURE_NAMES[0]] == [1.0]


def test_view_that_is_gone_leaves_no_rows(
    world: FeastWorld, valkey: ValkeyServer, prefix: str
) -> None:
    """Deleting a batch view deletes its rows, and no card's state."""
    world.store.push("merchant_risk_push", _rows([("m-1", "new", 0.5, 5)]))
    client = redis.Redis.from_url(valkey.environment()["FRAUD_REDIS_URL"])
    before = {key for key in client.scan_iter(f"{prefix}:*") if b":batch:" in key}

    view = world.store.get_feature_view("merchant_risk")
    world.store.apply([], objects_to_delete=[view], partial=False)

    after = set(client.scan_iter(f"{prefix}:*"))
    assert len(before) == 1
    assert not {key for key in after if b":batch:" in key}
    assert any(b":card:" in key for key in after)


def test_history_keeps_every_row_of_the_question(world: FeastWorld) -> None:
    """As many and in the order as they were; what is too old or too new is null."""
    days = [2, 0, 0, -1, 9]
    question = pd.DataFrame(
        {
            "merchant_key": ["m-1", "m-1", "m-1", "m-1", "m-1"],
            "event_timestamp": [pd.Timestamp(_START + _DAY * day) for day in days],
            "row": range(5),
        }
    )

    found = world.store.get_historical_features(
        question, ["merchant_risk:band", "merchant_risk:share"], full_feature_names=True
    ).to_df()

    assert found["row"].tolist() == [0, 1, 2, 3, 4]
    assert found["merchant_risk__band"].tolist() == ["high", "low", "low", None, None]
