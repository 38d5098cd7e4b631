"""An entity shard hears of a source once for each bucket of time, and no oftener."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from fraudstream.broker.clients import BatchProducer, OutRecord
from fraudstream.broker.topic_info import Log
from services.features.rows.entity_row_sender import EntityRowSender

_MINUTE_MS = 60_000


class FakeProducer(BatchProducer):
    """Keeps what it is given."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.sent: list[OutRecord] = []

    async def send(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Keep records."""
        self.sent += records


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now_ms: int = 10 * _MINUTE_MS

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms


def _told(positions: dict[int, int], busy: set[int], moments_ms: Sequence[int]) -> list[int]:
    """Return how many beats a sender sent at each moment, of two entity partitions."""
    clock, producer = Clock(), FakeProducer()
    entities, source = Log("entities", b"e" * 16, 2), Log("accepted", b"a" * 16, 1)
    sender = EntityRowSender(producer, entities, source, clock)
    counts = []
    for moment_ms in moments_ms:
        clock.now_ms, before = moment_ms, len(producer.sent)
        asyncio.run(sender.tell(positions, busy))
        counts.append(len(producer.sent) - before)
    return counts


def test_idle_source_is_told_once_a_minute() -> None:
    """A reader asks only whether a minute is closed: 59 of 60 beats said nothing new."""
    start_ms = 10 * _MINUTE_MS
    moments_ms = [start_ms, start_ms + 1_000, start_ms + 59_999, start_ms + _MINUTE_MS]

    assert _told({0: 7}, set(), moments_ms) == [2, 0, 0, 2]


def test_source_with_unread_records_is_told_by_its_records_alone() -> None:
    """The clock says nothing of a source that is behind: its minute is that of its last row."""
    assert _told({0: 7}, {0}, [10 * _MINUTE_MS, 11 * _MINUTE_MS]) == [2, 0]


def test_source_of_another_worker_is_not_told() -> None:
    """Who owns a partition speaks for it."""
    assert _told({}, set(), [10 * _MINUTE_MS]) == [0]
