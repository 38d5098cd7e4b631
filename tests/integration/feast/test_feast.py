"""Feast serves the bytes that the features service writes, and never writes a stream view."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore
from feast.data_source import PushMode

from fraudstream.errors import FeatureSpecMismatch, OnlineStoreUnavailable, ShardClosed
from fraudstream.feast_plugin.views import EntityRowsInvalid, StreamViewIsReadOnly
from fraudstream.features.catalogue import CATALOGUE, FEATURE_NAMES, Entity
from fraudstream.topics import partition_of
from harness.servers import ValkeyServer
from tests.worlds.feast_world import (
    DECIDED_MS,
    PARTITIONS,
    REPOSITORY,
    Decided,
    FeastWorld,
    is_same,
    make_world,
    write_cards,
)

_VECTOR = np.linspace(-1e9, 1 / 3, len(CATALOGUE), dtype=np.float32)
_VECTOR[1] = np.nan
_VECTOR[2] = -0.0
_CARDS = {
    f"bank.k1.{number:032x}": Decided(_VECTOR + number, DECIDED_MS + number) for number in range(12)
}
_RANGE = (datetime(2023, 11, 1, tzinfo=UTC), datetime(2023, 12, 1, tzinfo=UTC))
_STREAM_VIEWS = [f"{entity.value}_features" for entity in Entity]


@pytest.fixture(scope="module")
def environment(valkey: ValkeyServer) -> Iterator[Mapping[str, str]]:
    """Point this process at the test's store, under a prefix of its own."""
    found = {**valkey.environment(), "FRAUD_REDIS_KEY_PREFIX": "feast"}
    with pytest.MonkeyPatch.context() as patch:
        for name, setting in found.items():
            patch.setenv(name, setting)
        yield found


@pytest.fixture(scope="module")
def world(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> FeastWorld:
    """All stream views, and cards in every partition."""
    asyncio.run(write_cards(_CARDS))
    return make_world(tmp_path_factory.mktemp("feast"))


def _row_of(view: str) -> pd.DataFrame:
    """Return a row that would fit a stream view."""
    now = pd.Timestamp.now("UTC")
    row = pd.DataFrame({"card_token": ["x"], "event_timestamp": [now], "created_timestamp": [now]})
    for feature in CATALOGUE:
        if view == f"{feature.entity.value}_features":
            row[feature.name] = np.float32(0.5)
    return row


async def test_online_features_are_the_stored_vector_to_the_bit(world: FeastWorld) -> None:
    """Cards of all partitions and an unknown one, in any order: both ways give the stored bits."""
    cards = [*reversed(_CARDS), "nobody", next(iter(_CARDS))]
    assert len({partition_of(card.encode(), PARTITIONS) for card in _CARDS}) == PARTITIONS
    nothing = Decided(np.full(len(CATALOGUE), np.nan, np.float32), 0)
    expected = [_CARDS.get(card, nothing).vector for card in cards]

    plain, concurrent = world.online(cards), await world.online_async(cards)

    assert is_same(plain, expected)
    assert is_same(concurrent, expected)


def test_missing_value_is_null_and_the_event_timestamp_says_how_fresh_it_is(
    world: FeastWorld,
) -> None:
    """Freshness is the decision's event time, however old: Feast's ttl plays no part online."""
    card = list(_CARDS)[3]

    answer = world.store.get_online_features(
        [f"card_features:{FEATURE_NAMES[0]}", f"card_features:{FEATURE_NAMES[1]}"],
        [{"card_token": card}, {"card_token": "nobody"}],
    )

    found = answer.to_dict(include_event_timestamps=True)
    assert found[FEATURE_NAMES[1]] == [None, None]
    assert found[f"{FEATURE_NAMES[0]}__ts"] == [(DECIDED_MS + 3) // 1000, 0]
    stamped = answer.proto.results[-1].event_timestamps[0]
    assert stamped.ToMilliseconds() == DECIDED_MS + 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "expected at least one entity row"),
        ({"card_token": []}, "expected at least one entity row"),
        ([{"card_token": "a"}, {"card_token": None}], "entity row 1: expected a card_token"),
        ({"card_token": ["a", None]}, "entity row 1: expected a card_token"),
    ],
)
def test_rows_that_name_no_card_are_told(world: FeastWorld, rows: Any, said: str) -> None:
    """Feast alone ends with a TypeError or an IndexError that names neither row nor key."""
    features = ["card_features:card_count_1h"]

    with pytest.raises(EntityRowsInvalid, match=said):
        world.store.get_online_features(features, rows)
    with pytest.raises(EntityRowsInvalid, match=said):
        asyncio.run(world.store.get_online_features_async(features, rows))


async def test_vector_is_never_put_together_from_two_decisions(world: FeastWorld) -> None:
    """All views of a call are read together, whatever is written meanwhile."""

    async def decide_often() -> None:
        for number in range(30):
            vector = np.full(len(CATALOGUE), number, np.float32)
            await write_cards({"busy": Decided(vector, DECIDED_MS)})

    await write_cards({"busy": Decided(np.zeros(len(CATALOGUE), np.float32), DECIDED_MS)})
    writer = asyncio.create_task(decide_often())
    seen: list[set[float]] = []
    while not writer.done():
        seen.append(set((await world.online_async(["busy"]))[0].tolist()))
    await writer

    assert len(seen) > 1
    assert {len(values) for values in seen} == {1}


async def test_every_event_loop_has_connections_of_its_own(world: FeastWorld) -> None:
    """A program that calls `asyncio.run` twice finds a working client in the second loop too."""
    card = next(iter(_CARDS))

    found = [await asyncio.to_thread(asyncio.run, world.online_async([card])) for _ in range(2)]

    assert is_same(found, [[_CARDS[card].vector]] * 2)


@pytest.mark.parametrize("view", _STREAM_VIEWS)
def test_stream_view_refuses_every_way_to_write_it(world: FeastWorld, view: str) -> None:
    """The one writer is the stream; the message says so, also where there is nothing to write."""
    store, row = world.store, _row_of(view)
    ways: list[Callable[[], object]] = [
        lambda: store.push(view, row),
        lambda: store.write_to_online_store(view, row),
        lambda: asyncio.run(store.write_to_online_store_async(view, row)),
        lambda: store.materialize(*_RANGE, feature_views=[view]),
        lambda: store.materialize_incremental(_RANGE[1], feature_views=[view]),
    ]

    for way in ways:
        with pytest.raises(StreamViewIsReadOnly, match=rf"{view} .*stream alone.*services\.feat"):
            way()


def test_archive_takes_no_rows_from_feast(world: FeastWorld) -> None:
    """The archive's one writer is the archive service."""
    view = world.store.get_feature_view("card_features")

    with pytest.raises(StreamViewIsReadOnly, match="card_features"):
        world.store._get_provider().ingest_df_to_offline_store(view, None)
    with pytest.raises((StreamViewIsReadOnly, ValueError, OSError)):
        world.store.push("card_features", _row_of("card_features"), to=PushMode.OFFLINE)
    assert not world.decisions.exists()


async def test_view_of_another_catalogue_is_refused(world: FeastWorld) -> None:
    """Names may be the same and meanings not: whoever reads must have what was applied."""
    view = world.store.get_feature_view("card_features")
    view.tags["feature_set"] = "0123456789abcdef"

    with pytest.raises(FeatureSpecMismatch, match=r"0123456789abcdef.*apply"):
        world.store._get_provider().online_read(world.store.config, view, [])


@pytest.fixture
def silent_store() -> Iterator[socket.socket]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def _connections_to(listener: socket.socket) -> int:
    """Return how many connections wait at a port."""
    count = 0
    try:
        while True:
            listener.accept()[0].close()
            count += 1
    except BlockingIOError:
        return count


@pytest.mark.parametrize("is_async", [False, True])
async def test_store_that_does_not_answer_is_tried_once(
    world: FeastWorld,
    silent_store: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    is_async: bool,
) -> None:
    """One error of ours after one try, in the time that the settings give."""
    monkeypatch.setenv("FRAUD_REDIS_URL", f"redis://127.0.0.1:{silent_store.getsockname()[1]}/0")
    monkeypatch.setenv("FRAUD_REDIS_TIMEOUT_S", "0.2")
    lonely = FeastWorld(FeatureStore(str(world.store.repo_path)), world.decisions)

    with pytest.raises(OnlineStoreUnavailable, match="did not answer"):
        await lonely.online_async(["c"]) if is_async else lonely.online(["c"])

    assert _connections_to(silent_store) == 1


def test_shards_that_nobody_opened_are_no_unknown_cards(
    world: FeastWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store without markers is empty or lost: its answer would look like a new card's."""
    monkeypatch.setenv("FRAUD_REDIS_KEY_PREFIX", "feast-empty")
    lonely = FeastWorld(FeatureStore(str(world.store.repo_path)), world.decisions)

    with pytest.raises(ShardClosed, match="no features worker has opened it"):
        lonely.online(["c"])


@pytest.mark.slow
def test_feast_apply_works_from_a_checkout(environment: Mapping[str, str], tmp_path: Path) -> None:
    """`feast -c feature_repo apply`, with nothing but what `make .venv` made."""
    shutil.copytree(
        REPOSITORY, tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "var").mkdir()
    clean = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}

    applied = subprocess.run(
        [Path(sys.executable).parent / "feast", "-c", "feature_repo", "apply"],
        cwd=tmp_path,
        env={**clean, **environment, "FRAUD_ARCHIVE_ROOT": str(tmp_path / "archive")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert applied.returncode == 0, applied.stderr
    store = FeatureStore(str(tmp_path / "feature_repo"))
    assert sorted(view.name for view in store.list_feature_views()) == sorted(_STREAM_VIEWS)
