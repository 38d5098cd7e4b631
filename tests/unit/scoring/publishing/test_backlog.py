"""What waits in memory for a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from fraudstream.errors import BrokerUnavailable, OnlineStoreUnavailable
from services.scoring.publishing.backlog import Backlog, settled_by_sweep


class Numbers(Backlog[int]):
    """Finishes two of three numbers a round, while the broker is there."""

    def __init__(self, longest: int) -> None:
        super().__init__("numbers", longest)
        self.rounds: list[list[int]] = []
        self.is_away = False
        self.asked = asyncio.Event()

    def add(self, numbers: Iterable[int]) -> None:
        """Take numbers."""
        self._take(numbers)

    async def _work(self) -> int:
        self.asked.set()
        if self.is_away:
            raise BrokerUnavailable("gone")
        self.rounds.append(self._first(3))
        return 2


async def test_what_does_not_fit_is_not_taken() -> None:
    """The bound counts what a round works on too."""
    numbers = Numbers(3)
    numbers.add([1, 2])

    numbers.add([3, 4, 5])

    assert list(numbers._items) == [1, 2, 3]


async def test_rounds_finish_the_oldest_items_first() -> None:
    """What a round did not finish is in the next one, and the end is seen."""
    numbers = Numbers(10)
    numbers.add(range(6))
    working = asyncio.create_task(numbers.work_forever())

    await numbers.drain(5)

    working.cancel()
    assert numbers.rounds == [[0, 1, 2], [2, 3, 4], [4, 5]]


async def test_round_that_the_broker_did_not_take_waits_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is lost, and the log says what waits."""
    numbers = Numbers(10)
    numbers.is_away = True
    numbers.add([1])
    working = asyncio.create_task(numbers.work_forever())
    await numbers.asked.wait()

    await numbers.drain(0)

    working.cancel()
    assert list(numbers._items) == [1]
    assert "numbers wait for the broker: gone" in caplog.text
    assert "1 numbers are left to the outbox" in caplog.text


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
