"""One round at a time; the next takes all that came meanwhile."""

from __future__ import annotations

import asyncio

from fraudstream.errors import OnlineStoreUnavailable
from services.scoring.authorise.rounds import Coalescer


class FakeStore:
    """Doubles numbers; remembers its rounds; waits until let go."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.has_begun = asyncio.Event()
        self.is_free = asyncio.Event()

    async def double(self, numbers: list[int]) -> list[int]:
        """Return the numbers doubled."""
        self.rounds.append(numbers)
        self.has_begun.set()
        await self.is_free.wait()
        if 13 in numbers:
            msg = "gone"
            raise OnlineStoreUnavailable(msg)
        return [2 * number for number in numbers]


async def test_callers_that_wait_share_one_round() -> None:
    """While a round is in flight all others gather for the next, and each gets its own answers."""
    store = FakeStore()
    coalescer = Coalescer(store.double, 100)
    calls = [coalescer.submit([n, n + 50]) for n in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    store.is_free.set()

    answers = await asyncio.gather(*calls)

    assert [list(answer) for answer in answers] == [[2 * n, 2 * n + 100] for n in range(10)]
    assert len(store.rounds) <= 2


async def test_rounds_are_bounded_but_a_caller_is_never_split() -> None:
    """A round takes whole callers up to its bound; a larger caller goes alone."""
    store = FakeStore()
    store.is_free.set()
    coalescer = Coalescer(store.double, 4)

    await asyncio.gather(*(coalescer.submit([0] * size) for size in (3, 2, 2, 9)))

    assert [len(numbers) for numbers in store.rounds] == [3, 4, 9]


async def test_error_reaches_every_caller_of_its_round_and_no_other() -> None:
    """A failed round fails its callers; the next works."""
    store = FakeStore()
    store.is_free.set()
    coalescer = Coalescer(store.double, 2)

    failed, fine = await asyncio.gather(
        coalescer.submit([13, 1]), coalescer.submit([4, 5]), return_exceptions=True
    )

    assert isinstance(failed, OnlineStoreUnavailable)
    assert fine == [8, 10]


async def test_cancelled_caller_does_not_cancel_the_round() -> None:
    """The call to the store runs to its end for the others."""
    store = FakeStore()
    coalescer = Coalescer(store.double, 10)
    given_up, kept = coalescer.submit([1]), coalescer.submit([2])
    await store.has_begun.wait()
    given_up.cancel()
    store.is_free.set()

    assert await kept == [4]
    assert store.rounds == [[1, 2]]


async def test_caller_who_gave_up_before_its_round_is_left_out() -> None:
    """Nothing is done for nobody."""
    store = FakeStore()
    store.is_free.set()
    coalescer = Coalescer(store.double, 10)
    given_up, kept = coalescer.submit([1]), coalescer.submit([2])
    given_up.cancel()

    assert await kept == [4]
    assert store.rounds == [[2]]
