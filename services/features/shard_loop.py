"""One poll over the assigned shards: each succeeds or fails alone, and a failed one is reread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from fraudstream.batch_agent import Finished, Records
from fraudstream.errors import FraudStreamError
from services.features.positions import RETRY_S, Positions

_LOG: Final = logging.getLogger(__name__)

Work = Callable[[int, int, Records], Awaitable[int]]


class ShardLoop:
    """Takes every assigned shard one poll further.

    Args:
        positions: Where each shard stands.
        work: Takes one shard from a position to the end of its records, and returns that position.
    """

    def __init__(self, positions: Positions, work: Work) -> None:
        self._positions = positions
        self._work = work
        self._assigned: set[int] = set()

    def assigned(self, partitions: set[int]) -> None:
        """Forget every position: the assignment is another."""
        self._assigned = partitions
        self._positions.forget_all()

    async def handle(self, records: Records) -> Finished:
        """Work on each partition's rows; look at the markers of idle ones."""
        partitions = sorted(self._assigned | set(records))
        outcomes = await asyncio.gather(*(self._guarded(p, records) for p in partitions))
        finished = {p: at for p, at in zip(partitions, outcomes, strict=True) if at is not None}
        if len(finished) < len(partitions):
            await asyncio.sleep(RETRY_S)
        return finished

    async def _guarded(self, partition: int, records: Records) -> int | None:
        """Return the position after a shard's rows, None where it failed and is read again."""
        at: int | None = None
        try:
            at = await self._positions.position(partition)
            if not records.get(partition):
                await self._positions.check(partition)
                return at
            return await self._work(partition, at, records)
        except FraudStreamError as exc:
            _LOG.warning("shard %d starts again: %s", partition, exc)
            self._positions.forget(partition)
            if records.get(partition):
                first = records[partition][0].offset
                self._positions.seek(partition, first if at is None else at)
            return None
