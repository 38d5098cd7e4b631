"""Work on whatever waited: one round at a time, and the next takes all that came meanwhile.

A hundred callers at once make one round of a hundred: one script call a shard, one batch for the
engine, one array operation for all of them where each alone would cost as much. No timer: a round
begins when callers have stopped coming, at once for one who comes alone. A second round in flight,
which would use the store while the first uses the engine, made rounds half as large, and calls a
fifth dearer.
"""

from __future__ import annotations

import asyncio
import os
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

    Rounds run in a task of their own, so a caller that is cancelled never cancels a call to the
    store half way: its items are worked on, and nobody reads the answer. One whose future is
    cancelled before its round begins is left out.
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
        self._worker: asyncio.Task[None] | None = None
        self._last_asks = 0

    def submit(self, items: Sequence[T]) -> asyncio.Future[Sequence[R]]:
        """Return where the answers to the items will be, in order, or what the work raised."""
        loop = asyncio.get_running_loop()
        ask: _Ask[T, R] = _Ask(items, loop.create_future())
        self._asks.append(ask)
        if self._worker is None:
            self._worker = loop.create_task(self._run_rounds())
        return ask.answers

    async def _run_rounds(self) -> None:
        try:
            while self._asks:
                if self._last_asks > 1:
                    await self._gather()
                taken = self._take()
                if taken:  # not all of them have given up
                    self._last_asks = len(taken)
                    await self._run_round(taken)
        finally:
            self._worker = None

    async def _gather(self) -> None:
        """Let more callers come, as long as every few turns of the event loop bring one.

        While a round runs the event loop is busy, and gRPC's threads leave it the core
        (`rpc/server.py`): what came meanwhile they hand over here, where each turn offers the core
        to them first. Without this wait 128 callers made rounds of a few, and a call cost a third
        more.
        """
        quiet = 0
        while quiet < _QUIET_TURNS and len(self._asks) < self._max_items:
            waiting = len(self._asks)
            os.sched_yield()
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._asks) == waiting else 0

    def _take(self) -> list[_Ask[T, R]]:
        taken: list[_Ask[T, R]] = []
        items = 0
        while self._asks and (not taken or items + len(self._asks[0].items) <= self._max_items):
            ask = self._asks.popleft()
            if not ask.answers.done():  # its caller has not given up
                items += len(ask.items)
                taken.append(ask)
        return taken

    async def _run_round(self, asks: list[_Ask[T, R]]) -> None:
        items = [item for ask in asks for item in ask.items]
        try:
            answers = await self._work(items)
        except Exception as exc:  # noqa: BLE001  # raised in each of the callers
            for ask in asks:
                if not ask.answers.done():
                    ask.answers.set_exception(exc)
            return
        begin = 0
        for ask in asks:
            end = begin + len(ask.items)
            if not ask.answers.done():
                ask.answers.set_result(answers[begin:end])
            begin = end
