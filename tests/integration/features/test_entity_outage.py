"""Two hours without the entity role: no wrong value passes as a right one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from fraudstream.broker.clients import OutRecord
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.runtime.clock import epoch_ms
from fraudstream.store.shard import Role
from fraudstream.topics import ACCEPTED, partition_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.transaction_pb2 import Transaction
from tests.worlds.scoring_world import canonical, some_transaction
from tests.worlds.shard_line import ShardLine, ShardRole, eventually, shard_line

pytestmark = pytest.mark.slow

_MINUTE_MS: Final = 60_000
_OUTAGE_MINUTES: Final = 120
_PLACE: Final = FEATURE_NAMES.index("terminal_count_1h")


@pytest.fixture
async def line(topics: Mapping[str, str], tmp_path: Path) -> AsyncIterator[ShardLine]:
    """A line over topics of its own."""
    async with shard_line(topics, tmp_path) as made:
        yield made


def _rows(begin: int, minutes: range, start_ms: int) -> list[Transaction]:
    """Return one purchase a minute at one terminal, each of another card."""
    rows = []
    for place, minute in enumerate(minutes):
        row = canonical(some_transaction(begin + place, card=1 + (begin + place) % 8))
        row.event_time_ms = start_ms + minute * _MINUTE_MS
        rows.append(row)
    return rows


async def _accept(line: ShardLine, rows: Sequence[Transaction]) -> None:
    """Append rows that arrive when they happen."""
    log = await line.log_of(ACCEPTED)
    records = []
    for row in rows:
        key = row.card_token.encode()
        value = AcceptedTransaction(transaction=row).SerializeToString()
        at = partition_of(key, log.partitions)
        records.append(OutRecord(key, value, at, timestamp_ms=row.event_time_ms))
    await line.producer.send(log.name, records)


async def _by_id(line: ShardLine) -> dict[str, Decision]:
    return {decision.transaction_id: decision for decision in await line.decisions()}


def _count(decision: Decision) -> float:
    return float(np.frombuffer(decision.vector, "<f4")[_PLACE])


async def _catch_up(line: ShardLine, cards: ShardRole, entities: ShardRole) -> None:
    """Poll both roles until the entity shards know of every row and the newest watermark."""
    rows = 0

    async def is_level() -> bool:
        nonlocal rows
        await cards.poll()
        await entities.poll()
        before, rows = rows, len(await line.entity_rows())
        markers = (await line.markers(Role.ENTITY, entities.log)).values()
        applied = sum(marker.next_offset for marker in markers if marker)
        return rows == before == applied

    await eventually(is_level)


async def test_rows_of_an_outage_are_marked_and_those_after_it_are_right(line: ShardLine) -> None:
    """While entities stand still every row says so; once they caught up, counts are exact."""
    start_ms = epoch_ms() // _MINUTE_MS * _MINUTE_MS - 6 * 60 * _MINUTE_MS
    outage = range(60, 60 + _OUTAGE_MINUTES)
    async with line.role(Role.CARD) as cards:
        async with line.role(Role.ENTITY) as entities:
            await _accept(line, _rows(0, range(60), start_ms))
            await line.settle(cards, 60)
            await _catch_up(line, cards, entities)
        await _accept(line, _rows(60, outage, start_ms))
        await line.settle(cards, 60 + _OUTAGE_MINUTES)
        during = await _by_id(line)
        async with line.role(Role.ENTITY) as entities:
            await _catch_up(line, cards, entities)
            after = outage.stop + 1
            await _accept(line, _rows(after, range(after, after + 1), start_ms))
            await line.settle(cards, 61 + _OUTAGE_MINUTES)

    late = [during[f"t-{number}"] for number in outage if number > outage.start + 1]
    assert all(decision.freshness.shared_stale and decision.degraded for decision in late)
    last = (await _by_id(line))[f"t-{after}"]
    assert _count(last) == 59.0  # one a minute, but for the minute without a row
