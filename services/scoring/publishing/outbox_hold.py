"""Tell the store which outbox entries this scorer is about to publish, so that nobody else does.

An entry that nobody holds for `sweep_after_ms` is taken by a sweep: its scorer died. Costs nothing
while decisions are published at once: only what waited at the last look is held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from fraudstream.errors import FraudStreamError
from fraudstream.store.shard import ShardRef
from fraudstream.store.shard_store import StateStore
from services.scoring.publishing.publisher import Outgoing

_CHUNK: Final = 1_000

_LOG: Final = logging.getLogger(__name__)

Waiting = Iterable[tuple[ShardRef, Outgoing]]


class OutboxHold:
    """Holds what waits in this process. Use from one event loop.

    Args:
        store: Where the outboxes are.
        sources: Each tells what waits in one part of the scorer.
        every_s: Between two looks; three of them must fit into the time after which a sweep takes.
    """

    def __init__(
        self, store: StateStore, sources: Sequence[Callable[[], Waiting]], every_s: float
    ) -> None:
        self._store = store
        self._sources = sources
        self._every_s = every_s
        self._seen: set[bytes] = set()

    async def hold_forever(self) -> None:
        """Look, hold what waits since the last look, wait."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.hold()
            except FraudStreamError as exc:
                _LOG.info("waiting decisions are not held in the store: %s", exc)

    async def hold(self) -> None:
        """Hold what waited at the last look and waits still.

        Raises:
            OnlineStoreUnavailable: The store does not answer.
        """
        waiting = {row.row.identity: shard for source in self._sources for shard, row in source()}
        batches: dict[ShardRef, list[bytes]] = {}
        for identity in self._seen & waiting.keys():
            batches.setdefault(waiting[identity], []).append(identity)
        self._seen = set(waiting)
        for shard, identities in batches.items():
            for begin in range(0, len(identities), _CHUNK):
                await self._store.hold_unpublished(shard, identities[begin : begin + _CHUNK])
