"""The consumer's thread: what a rebalance takes away while a request is under way is no crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from fraudstream.broker.batch_agent import (
    AgentSettings,
    BatchConsumer,
    Finished,
    Records,
    batch_app,
)
from fraudstream.broker.faust_thread import ConsumerThread
from fraudstream.settings import KafkaSettings

STAYS, MOVES = TP("accepted", 0), TP("accepted", 1)


class FakeKafkaClient:
    """Keeps positions and commits as aiokafka does; asked for an offset, it loses a partition."""

    def __init__(self, committed: Mapping[TP, int]) -> None:
        self._committed = dict(committed)
        self._assigned = set(committed)
        self.sought: dict[TP, int] = {}
        self.stops = 0

    def assignment(self) -> set[TP]:
        return set(self._assigned)

    def lose(self, tp: TP) -> None:
        self._assigned.discard(tp)

    async def committed(self, tp: TP) -> int:
        self.lose(MOVES)
        return self._committed[tp]

    def seek(self, tp: TP, offset: int) -> None:
        if tp not in self._assigned:
            msg = f"No current assignment for partition {tp}"
            raise IllegalStateError(msg)
        self.sought[tp] = offset

    async def commit(self, offsets: Mapping[TP, Any]) -> None:
        if not offsets:
            raise ValueError(offsets)
        self._committed.update({tp: at.offset for tp, at in offsets.items()})

    async def stop(self) -> None:
        self.stops += 1
        request = asyncio.get_running_loop().create_future()
        request.cancel()
        await request  # as aiokafka does with a fetch that waits before it tries again


class NoHandler:
    """Finishes nothing."""

    def assigned(self, partitions: set[int]) -> None:
        """Take note of nothing."""

    async def handle(self, records: Records) -> Finished:
        """Finish nothing."""
        return {}


@pytest.fixture
async def thread() -> AsyncIterator[ConsumerThread]:
    """A consumer's thread that is not running."""
    app = batch_app(
        KafkaSettings(), AgentSettings("group", "accepted", "", "/nowhere"), NoHandler()
    )
    made = cast(BatchConsumer, app.consumer)._new_consumer_thread()
    yield made
    made.thread_loop.close()


async def test_partition_that_moves_while_positions_are_sought_is_left_out(
    thread: ConsumerThread,
) -> None:
    """The others are sought, and the worker lives on."""
    client = FakeKafkaClient({STAYS: 7, MOVES: 9})
    thread._consumer = client

    assert await thread._seek_assigned() == {STAYS: 7}
    assert client.sought == {STAYS: 7}


async def test_worker_without_a_partition_seeks_nothing(thread: ConsumerThread) -> None:
    """More workers than partitions is no failure."""
    thread._consumer = FakeKafkaClient({})

    assert await thread._seek_assigned() == {}


async def test_commit_of_partitions_that_all_moved_commits_nothing(
    thread: ConsumerThread,
) -> None:
    """aiokafka takes an empty commit for a mistake of its caller."""
    client = FakeKafkaClient({STAYS: 7})
    thread._consumer = client

    assert not await thread._commit({MOVES: 10})
    assert await thread._commit({MOVES: 10, STAYS: 8})
    assert await client.committed(STAYS) == 8
    assert not thread.crashed


async def test_client_that_raises_its_own_cancellation_is_closed(thread: ConsumerThread) -> None:
    """The thread ends in order, and the worker does not wait a minute for it."""
    client = FakeKafkaClient({STAYS: 7})
    thread._consumer = client

    await thread.on_thread_stop()

    assert client.stops == 1
