"""Publish in the background, from memory, what callers were answered already.

Bounded: what does not fit is in the outbox anyway, where the sweep finds it. A broker that is away
is tried again until it is back; order between decisions of one shard is the order of recording.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from fraudstream.store.shard import ShardRef
from services.scoring.publishing.backlog import Backlog, settled_by_sweep
from services.scoring.publishing.publisher import Outgoing, Publisher

_ROUND: Final = 512
# A round costs a request to the broker a topic, whether it has one decision or a hundred; they are
# answered already, and what dies with a scorer meanwhile is in the outbox.
_LINGER_S: Final = 0.05


class PublishBacklog(Backlog[tuple[ShardRef, Outgoing]]):
    """Decisions that are recorded and not yet published."""

    def __init__(self, publisher: Publisher, longest: int) -> None:
        super().__init__("decisions", longest)
        self._publisher = publisher

    def add(self, shard: ShardRef, rows: Sequence[Outgoing]) -> None:
        """Take decisions; those over the bound are left to the sweep of the outbox."""
        self._take((shard, row) for row in rows)

    def waiting(self) -> Iterator[tuple[ShardRef, Outgoing]]:
        """Yield what is not published yet."""
        return iter(self._items)

    async def _work(self) -> int:
        await asyncio.sleep(_LINGER_S)
        taken = self._first(_ROUND)
        batches: dict[ShardRef, list[Outgoing]] = {}
        for shard, row in taken:
            batches.setdefault(shard, []).append(row)
        with settled_by_sweep("decisions"):
            await self._publisher.publish(batches)
        return len(taken)
