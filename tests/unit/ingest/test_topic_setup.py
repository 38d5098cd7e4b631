"""How long a topic keeps records: long enough to rebuild from, card numbers no longer than said."""

from __future__ import annotations

import pytest

from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, ALL, DAY_MS, RAW, RULES, Topic
from services.ingest.setup.topic_setup import retention_faults

_LIVE = KafkaSettings()
_REPLAY = KafkaSettings(is_replay=True)


@pytest.mark.parametrize("topic", ALL, ids=lambda topic: topic.name)
def test_retention_as_made_is_right(topic: Topic) -> None:
    """`topics check` takes what `topics create` makes."""
    assert retention_faults(topic, _LIVE, topic.retention_ms) == []


@pytest.mark.parametrize("kept_ms", [RAW.retention_ms + 1, 45 * DAY_MS, -1])
def test_raw_topic_may_not_keep_card_numbers_longer(kept_ms: int) -> None:
    """It is the only topic with card numbers."""
    (fault,) = retention_faults(RAW, _LIVE, kept_ms)

    assert f"retention.ms {kept_ms}, expected {RAW.retention_ms}: it holds card numbers" in fault


@pytest.mark.parametrize("kept_ms", [ACCEPTED.retention_ms + 1, -1])
def test_other_topics_may_keep_longer(kept_ms: int) -> None:
    """A rebuild from more records is no fault."""
    assert retention_faults(ACCEPTED, _LIVE, kept_ms) == []


@pytest.mark.parametrize("topic", [RAW, ACCEPTED, RULES], ids=lambda topic: topic.name)
def test_too_short_a_retention_is_named(topic: Topic) -> None:
    """What expires too early cannot be rebuilt from."""
    (fault,) = retention_faults(topic, _LIVE, DAY_MS)

    assert f"retention.ms {DAY_MS}, expected {topic.retention_ms} at least" in fault


def test_replay_keeps_for_ever() -> None:
    """Old records would expire at once."""
    assert retention_faults(RAW, _REPLAY, -1) == []
    assert retention_faults(RAW, _REPLAY, RAW.retention_ms) != []
