"""What waits in memory for a worker."""

from __future__ import annotations

import asyncio

import pytest

from fraudstream.errors import BrokerUnavailable, OnlineStoreUnavailable
from services.scoring.publishing.backlog import Backlog, settled_by_sweep


async def test_what_does_not_fit_is_not_taken() -> None:
    """The bound counts what a round works on too."""
    backlog: Backlog[int] = Backlog("numbers", 3)
    backlog.add([1, 2])

    backlog.add([3, 4, 5])

    assert list(backlog) == [1, 2, 3]


async def test_rounds_finish_the_oldest_items_first() -> None:
    """What a round did not finish is in the next one, and the end is seen."""
    backlog: Backlog[int] = Backlog("numbers", 10)
    rounds = []

    async def work() -> int:
        rounds.append(backlog.first(3))
        return 2

    backlog.add(range(6))
    working = asyncio.create_task(backlog.work_forever(work))
    await backlog.drain(5)
    working.cancel()

    assert rounds == [[0, 1, 2], [2, 3, 4], [4, 5]]


async def test_round_that_the_broker_did_not_take_waits_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is lost, and the log says what waits."""
    backlog: Backlog[int] = Backlog("numbers", 10)
    backlog.add([1])
    asked = asyncio.Event()

    async def work() -> int:
        asked.set()
        raise BrokerUnavailable("gone")

    working = asyncio.create_task(backlog.work_forever(work))
    await asked.wait()
    working.cancel()

    with pytest.raises(TimeoutError):
        await backlog.drain(0)
    assert list(backlog) == [1]
    assert "numbers wait for the broker: gone" in caplog.text


def test_store_that_cannot_settle_is_logged_and_a_broker_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is published is not published again from here."""
    with settled_by_sweep("numbers"):
        raise OnlineStoreUnavailable("away")
    with pytest.raises(BrokerUnavailable), settled_by_sweep("numbers"):
        raise BrokerUnavailable("gone")

    assert "published numbers are not settled: away" in caplog.text
    assert "gone" not in caplog.text
