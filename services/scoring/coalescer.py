"""Work on whatever waited: one round in flight, and the next takes all that came meanwhile.

Used for the store: a hundred callers at once make one script call a shard, not a hundred.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class _Ask(Generic[T, R]):
    """The items of one caller, and where their answers go."""

    items: Sequence[T]
    answers: asyncio.Future[Sequence[R]]


class Coalescer(Generic[T, R]):
    """Gathers items of many callers into rounds. Use from one event loop.

    A round runs in a task of its own, so a caller that is cancelled never cancels a call to the
    store half way: its items are worked on, and nobody reads the answer.
    """

    def __init__(self, work: Callable[[list[T]], Awaitable[Sequence[R]]], max_items: int) -> None:
        """Keep the work to do.

        Args:
            work: Answers the items of a round, in order.
            max_items: Of one round, unless one caller alone has more.
        """
        self._work = work
        self._max_items = max_items
        self._asks: deque[_Ask[T, R]] = deque()
        self._rounds: asyncio.Task[None] | None = None

    async def submit(self, items: Sequence[T]) -> Sequence[R]:
        """Return the answers to the items, in order; what the work raises is raised here."""
        loop = asyncio.get_running_loop()
        ask: _Ask[T, R] = _Ask(items, loop.create_future())
        self._asks.append(ask)
        if self._rounds is None:
            self._rounds = loop.create_task(self._work_off())
        return await ask.answers

    async def _work_off(self) -> None:
        try:
            while self._asks:
                await self._run_round(self._take())
        finally:
            self._rounds = None

    def _take(self) -> list[_Ask[T, R]]:
        taken = [self._asks.popleft()]
        items = len(taken[0].items)
        while self._asks and items + len(self._asks[0].items) <= self._max_items:
            items += len(self._asks[0].items)
            taken.append(self._asks.popleft())
        return taken

    async def _run_round(self, asks: list[_Ask[T, R]]) -> None:
        items = [item for ask in asks for item in ask.items]
        # An error is raised in each of the callers, not here.
        (answers,) = await asyncio.gather(self._work(items), return_exceptions=True)
        if isinstance(answers, BaseException):
            for ask in asks:
                if not ask.answers.done():
                    ask.answers.set_exception(answers)
            return
        begin = 0
        for ask in asks:
            end = begin + len(ask.items)
            if not ask.answers.done():
                ask.answers.set_result(answers[begin:end])
            begin = end
