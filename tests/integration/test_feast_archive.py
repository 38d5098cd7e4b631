"""Feast's offline source is the archive: point-in-time joins over decided vectors."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from feast import FeatureStore, RepoConfig

from fraudstream.archive_files import list_files
from fraudstream.canonical_batches import LogRows, decision_batch
from fraudstream.feast_views import card_entity, feature_service, feature_views
from fraudstream.features.catalogue import FEATURE_NAMES
from services.archive.open_file import OpenFile
from services.archive.place import Place
from services.archive.streams import STREAMS
from tests.archive_records import EVENT_MS, VECTOR, decision

HOUR_MS = 3_600_000
DAY = datetime.fromtimestamp(EVENT_MS / 1_000, UTC).date()


def archive_decisions(root: Path) -> None:
    """Archive two decisions about one card, an hour apart, the second with doubled features."""
    later = decision(1)
    later.event_time_ms += HOUR_MS
    later.vector = (VECTOR * 2).tobytes()
    for partition, message in enumerate((decision(1), later)):
        place = Place(root, STREAMS[1], "ab" * 16, partition)
        lock = place.lock()
        assert lock is not None
        file = OpenFile(place, 0, DAY)
        file.write(decision_batch([message], LogRows(partition, [0], [message.event_time_ms])))
        file.publish(0)
        lock.close()


def feast_over(root: Path, folder: Path) -> FeatureStore:
    """Return a repository whose views have the archive as their source."""
    config = RepoConfig(
        project="archive",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store=None,
        offline_store={"type": "file"},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    store = FeatureStore(config=config)
    views = feature_views(root / "decisions")
    store.apply([card_entity(), *views, feature_service(views)])
    return store


def test_feast_joins_the_vector_that_was_decided_last(tmp_path: Path) -> None:
    """As of a moment: the first, then the second; Feast leaves out what is before both."""
    archive_decisions(tmp_path / "archive")
    store = feast_over(tmp_path / "archive", tmp_path)
    moments = [EVENT_MS - HOUR_MS, EVENT_MS + HOUR_MS // 2, EVENT_MS + 2 * HOUR_MS]
    asked = pd.DataFrame(
        {
            "card_token": [decision(1).card_token] * 3,
            "event_timestamp": pd.to_datetime(moments, unit="ms", utc=True),
        }
    )

    service = store.get_feature_service("decision_vector")
    found = store.get_historical_features(asked, service).to_df().sort_values("event_timestamp")

    last = FEATURE_NAMES[-1]
    assert len(list_files(tmp_path / "archive" / "decisions")) == 2
    assert found[last].tolist() == [VECTOR[-1], 2 * VECTOR[-1]]
    assert set(FEATURE_NAMES) <= set(found.columns)
