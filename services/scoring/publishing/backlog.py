"""What waits in memory for a worker: bounded, in the order of arrival, worked on in rounds."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final, Generic, TypeVar

from fraudstream.errors import BrokerUnavailable, FraudStreamError

T = TypeVar("T")

_RETRY_S: Final = 0.5

_LOG: Final = logging.getLogger(__name__)


class Backlog(ABC, Generic[T]):
    """Items that no round has finished yet. Use from one event loop.

    Args:
        what: Names the items in the log.
        longest: How many may wait.
    """

    def __init__(self, what: str, longest: int) -> None:
        self._what = what
        self._longest = longest
        self._items: deque[T] = deque()
        self._has_some = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    @property
    def _room(self) -> int:
        """How many items fit in."""
        return self._longest - len(self._items)

    def _take(self, items: Iterable[T]) -> None:
        """Take as many items as there is room for."""
        self._items.extend(islice(items, self._room))
        if self._items:
            self._has_some.set()
            self._is_empty.clear()

    def _first(self, most: int, after: int = 0) -> list[T]:
        """Return the oldest items, behind so many others."""
        return list(islice(self._items, after, after + most))

    @abstractmethod
    async def _work(self) -> int:
        """Work on a round; return how many of the oldest items it has finished."""

    async def work_forever(self) -> None:
        """Work on whatever waits; a broker that is away is asked again until it is back."""
        while True:
            await self._has_some.wait()
            try:
                finished = await self._work()
            except BrokerUnavailable as exc:
                _LOG.warning("%s wait for the broker: %s", self._what, exc)
                await asyncio.sleep(_RETRY_S)
                continue
            for _ in range(finished):
                self._items.popleft()
            if not self._items:
                self._has_some.clear()
                self._is_empty.set()

    async def drain(self, timeout_s: float) -> None:
        """Wait until nothing is left, at most so long; the rest is in the outbox."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_empty.wait()
        except TimeoutError:
            _LOG.warning("%d %s are left to the outbox", len(self._items), self._what)


@contextmanager
def settled_by_sweep(what: str) -> Iterator[None]:
    """Log a store that could not settle what is published: the sweep publishes it once more."""
    try:
        yield
    except BrokerUnavailable:
        raise
    except FraudStreamError as exc:
        _LOG.warning("published %s are not settled: %s", what, exc)
