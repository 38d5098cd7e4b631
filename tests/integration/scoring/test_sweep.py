"""The sweep takes what nobody holds: a slow scorer publishes its decisions itself, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
import redis.asyncio as redis

from fraudstream.broker.clients import OutRecord
from fraudstream.settings import KafkaSettings
from fraudstream.store.shard import RecordRow
from fraudstream.store.shard_store import StateStore
from fraudstream.telemetry.metrics import OUTBOX_SWEPT
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.v1.decision_pb2 import Decision
from services.scoring.publishing.decision_backlog import PublishBacklog
from services.scoring.publishing.outbox_hold import OutboxHold
from services.scoring.publishing.outbox_sweeper import Sweeper
from services.scoring.publishing.publisher import Publisher, outgoing_of
from services.scoring.shards.card_shards import CardShards
from tests.worlds.accepted_rows import decision_about, transaction_of
from tests.worlds.scoring_world import PARTITIONS, card_shard, open_shards, open_store
from tests.worlds.store_shard import record

_LONG_MS = 600_000
_ROWS = 20


class SlowBroker:
    """Keeps what is sent, and acknowledges it when it is let go."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.has_some = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def send(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Take records; return when they are acknowledged."""
        self.sent += [each.value for each in records]
        self.has_some.set()
        await self.may_answer.wait()


@dataclass
class Publishing:
    """What one scorer publishes with."""

    store: StateStore
    broker: SlowBroker = field(default_factory=SlowBroker)

    def __post_init__(self) -> None:
        self.publisher = Publisher(self.broker, self.store, KafkaSettings(), lambda *_: None)
        self.backlog = PublishBacklog(self.publisher, _ROWS)
        sources = (self.publisher.in_flight, self.backlog.waiting)
        self.hold = OutboxHold(self.store, sources, 1.0)
        shards = CardShards(self.store, PARTITIONS)
        self.sweeper = Sweeper(self.store, shards, self.publisher, 1_000, _LONG_MS)


@pytest.fixture
async def store(line_env: Mapping[str, str]) -> AsyncIterator[StateStore]:
    """A store whose card shards are open."""
    async with open_store(line_env) as opened:
        await open_shards(opened)
        yield opened


def _rows() -> list[RecordRow]:
    made = decision_about(transaction_of("t-1"), is_of_log=True)
    return [
        RecordRow(bytes([number] * 16), bytes(32), made.SerializeToString(), 5)
        for number in range(_ROWS)
    ]


async def _pass_time(store: StateStore, client: redis.Redis) -> None:
    """Let every entry of the shard be as old as if nobody had held it for a day."""
    outbox = store.keys(card_shard(0)).outbox
    await client.zadd(outbox, {row.identity: 1 for row in _rows()}, xx=True)


async def test_sweep_leaves_what_a_slow_scorer_holds(
    store: StateStore, client: redis.Redis
) -> None:
    """Held while it waits for its turn and for the broker; taken, once, when its scorer is dead."""
    slow, other = Publishing(store), Publishing(store)
    other.broker.may_answer.set()
    rows = _rows()
    await record(store, card_shard(0), rows)
    span = TraceContext.start(0.0)
    going = [outgoing_of(Decision.FromString(row.value), row, span) for row in rows]
    slow.backlog.add(card_shard(0), going[10:])
    publishing = asyncio.create_task(slow.publisher.publish({card_shard(0): going[:10]}))
    await slow.broker.has_some.wait()
    await slow.hold.hold()

    await _pass_time(store, client)
    await slow.hold.hold()
    assert await other.sweeper.sweep() == 0

    before = OUTBOX_SWEPT._value.get()
    await _pass_time(store, client)
    assert await other.sweeper.sweep() == _ROWS
    assert await other.sweeper.sweep() == 0
    assert len(other.broker.sent) == _ROWS
    assert OUTBOX_SWEPT._value.get() - before == _ROWS
    slow.broker.may_answer.set()
    await publishing
