"""Publish in the background, from memory, what callers were answered already.

Bounded: what does not fit is in the outbox anyway, where the sweep finds it. A broker that is away
is tried again until it is back; order between decisions of one shard is the order of recording.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from fraudstream.errors import BrokerUnavailable, FraudStreamError
from fraudstream.store.shard import ShardRef
from services.scoring.publishing.publisher import Outgoing, Publisher

_ROUND: Final = 512
# A round costs a request to the broker a topic, whether it has one decision or a hundred; they are
# answered already, and what dies with a scorer meanwhile is in the outbox.
_LINGER_S: Final = 0.05
_RETRY_S: Final = 0.5

_LOG = logging.getLogger(__name__)


class PublishBacklog:
    """Decisions that are recorded and not yet published. Use from one event loop."""

    def __init__(self, publisher: Publisher, longest: int) -> None:
        self._publisher = publisher
        self._longest = longest
        self._waiting: deque[tuple[ShardRef, Outgoing]] = deque()
        self._has_some = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def add(self, shard: ShardRef, rows: Sequence[Outgoing]) -> None:
        """Take decisions; those over the bound are left to the sweep of the outbox."""
        room = self._longest - len(self._waiting)
        self._waiting.extend((shard, row) for row in rows[:room])
        if self._waiting:
            self._has_some.set()
            self._is_empty.clear()

    def waiting(self) -> Iterator[tuple[ShardRef, Outgoing]]:
        """Yield what is not being published yet."""
        return iter(self._waiting)

    async def publish_forever(self) -> None:
        """Publish whatever waits, in rounds."""
        while True:
            await self._has_some.wait()
            await asyncio.sleep(_LINGER_S)
            taken = [self._waiting.popleft() for _ in range(min(_ROUND, len(self._waiting)))]
            lots: dict[ShardRef, list[Outgoing]] = {}
            for shard, row in taken:
                lots.setdefault(shard, []).append(row)
            try:
                await self._publisher.publish(lots)
            except BrokerUnavailable as exc:
                _LOG.warning("decisions wait for the broker: %s", exc)
                self._waiting.extendleft(reversed(taken))
                await asyncio.sleep(_RETRY_S)
            except FraudStreamError as exc:
                # Published; what the store could not settle, the sweep publishes once more.
                _LOG.warning("published decisions are not settled: %s", exc)
            if not self._waiting:
                self._has_some.clear()
                self._is_empty.set()

    async def drain(self, timeout_s: float) -> None:
        """Wait until nothing is left, at most so long; the rest is in the outbox."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_empty.wait()
        except TimeoutError:
            _LOG.warning("%d decisions are left to the outbox", len(self._waiting))
