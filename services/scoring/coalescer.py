"""Work on whatever waited: one round in flight, and the next takes all that came meanwhile.

Used for the store: a hundred callers at once make one script call a shard, not a hundred. No timer:
a round begins when callers have stopped coming, at once for one who comes alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# grpc.aio hands over one call a turn of the event loop, or every few turns: as many without one say
# that no more are on their way. Ten cost 0.2 ms, and nothing where callers come alone.
_QUIET_TURNS: Final = 10


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
        self._had_company = False

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
                if self._had_company:
                    await self._gather()
                taken = self._take()
                self._had_company = len(taken) > 1
                await self._run_round(taken)
        finally:
            self._rounds = None

    async def _gather(self) -> None:
        """Let more callers come, as long as every few turns of the event loop bring one.

        While a round runs the event loop is busy, and takes few calls from gRPC: without this wait
        128 callers made rounds of three, and a call cost twice as much.
        """
        quiet = 0
        while quiet < _QUIET_TURNS and len(self._asks) < self._max_items:
            waiting = len(self._asks)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._asks) == waiting else 0

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
