"""One poll over the assigned shards: each succeeds or fails alone, and a failed one is reread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fraudstream.broker.batch_agent import Finished, Records
from fraudstream.errors import FeatureSpecMismatch, FraudStreamError, LogReplaced
from services.features.rebuild.background import BackgroundRebuilds
from services.features.shards.loss import ShardLost
from services.features.shards.positions import RETRY_S, Positions

_LOG: Final = logging.getLogger(__name__)

Work = Callable[[int, int, Records], Awaitable[int]]
End = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class ShardOwner:
    """What a worker does about its shards.

    Attributes:
        positions: Where each shard stands.
        rebuilds: Rebuilds those that are lost.
        end: Ends the process with an exit code, because of what the message says.
    """

    positions: Positions
    rebuilds: BackgroundRebuilds
    end: End


class ShardLoop:
    """Takes every assigned shard one poll further.

    Args:
        owner: Where each shard stands, and what to do about one that is lost.
        work: Takes one shard from a position to the end of its records, and returns that position.
    """

    def __init__(self, owner: ShardOwner, work: Work) -> None:
        self._owner = owner
        self._positions = owner.positions
        self._work = work
        self._assigned: set[int] = set()

    def assigned(self, partitions: set[int]) -> None:
        """Forget every position: the assignment is another."""
        self._assigned = partitions
        self._positions.forget_all()
        self._owner.rebuilds.assigned(partitions)

    async def handle(self, records: Records) -> Finished:
        """Work on each partition's rows; look at the markers of idle ones.

        A shard that is being rebuilt is left out: its rows are read again afterwards.
        """
        rebuilds = self._owner.rebuilds
        partitions = sorted(p for p in self._assigned | set(records) if not rebuilds.is_busy(p))
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
        except ShardLost as exc:
            self._positions.forget(partition)
            self._owner.rebuilds.begin(partition, exc)
        except (LogReplaced, FeatureSpecMismatch) as exc:
            # Ended, it frees its partitions for the workers of the release that goes on.
            self._owner.end(exc.exit_code, str(exc))
        except FraudStreamError as exc:
            _LOG.warning("shard %d starts again: %s", partition, exc)
            self._positions.forget(partition)
            if records.get(partition):
                first = records[partition][0].offset
                self._positions.seek(partition, first if at is None else at)
        return None
