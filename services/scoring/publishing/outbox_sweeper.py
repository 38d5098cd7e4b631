"""Publish what a dead scorer recorded and did not publish: every scorer sweeps every shard.

What a living scorer is about to publish it holds (`outbox_hold`), however long that takes; a sweep
takes what nobody holds, and one sweep alone. Taken entries are held like those of one's own.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from fraudstream.broker.messages import NotOurs, read_message
from fraudstream.errors import FraudStreamError, ShardClosed
from fraudstream.runtime.clock import epoch_ms
from fraudstream.store.shard import OutboxEntry, RecordRow
from fraudstream.store.shard_store import StateStore
from fraudstream.telemetry.metrics import OUTBOX_SWEPT
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.v1.decision_pb2 import Decision
from services.scoring.publishing.publisher import Outgoing, Publisher, outgoing_of
from services.scoring.shards.card_shards import CardShards

_LIMIT: Final = 256

_LOG = logging.getLogger(__name__)


class Sweeper:
    """Sweeps the outboxes of all card shards.

    Args:
        store: Where they are.
        shards: The shards.
        publisher: Publishes what it finds.
        every_ms: Between two sweeps.
        after_ms: An entry that nobody has held for so long is taken.
    """

    def __init__(
        self,
        store: StateStore,
        shards: CardShards,
        publisher: Publisher,
        every_ms: int,
        after_ms: int,
    ) -> None:
        self._store = store
        self._shards = shards
        self._publisher = publisher
        self._every_ms = every_ms
        self._after_ms = after_ms

    async def sweep_forever(self) -> None:
        """Sweep, wait, sweep."""
        while True:
            try:
                await self.sweep()
            except FraudStreamError as exc:
                _LOG.warning("the outboxes could not be swept: %s", exc)
            await asyncio.sleep(self._every_ms / 1000)

    async def sweep(self) -> int:
        """Publish old entries of every open shard once; return how many there were.

        Raises:
            OnlineStoreUnavailable: The store does not answer.
            BrokerUnavailable: The broker does not.
        """
        swept = 0
        for partition in range(self._shards.partitions):
            swept += await self._sweep_shard(partition)
        return swept

    async def _sweep_shard(self, partition: int) -> int:
        try:
            shard = await self._shards.open_shard(partition)
        except ShardClosed:
            return 0  # it is swept when its owner has opened it
        entries = await self._store.take_unpublished(shard, self._after_ms, _LIMIT)
        found = [(entry, _outgoing_of(entry)) for entry in entries]
        unfit = [
            RecordRow(entry.identity, entry.digest, entry.value, None)
            for entry, row in found
            if row is None
        ]
        if unfit:  # published by nobody, ever: they only stand in the way of others
            await self._store.settle_published(shard, unfit)
        outgoing = [row for _, row in found if row is not None]
        if outgoing:
            await self._publisher.publish({shard: outgoing})
            OUTBOX_SWEPT.inc(len(outgoing))
            _LOG.warning(
                "shard %d: %d decisions were left unpublished: their scorer died, or the store lost"
                " its outbox",
                partition,
                len(outgoing),
            )
        return len(outgoing)


def _outgoing_of(entry: OutboxEntry) -> Outgoing | None:
    """Return what has to be published of an entry, None where nobody can read it."""
    try:
        # Whatever its time says, it was recorded before now.
        decision = read_message(Decision, entry.value, epoch_ms())
    except NotOurs as exc:
        _LOG.error("outbox entry %s is not published: %s", entry.identity.hex(), exc.message)
        return None
    offset = decision.coordinates.offset if decision.HasField("coordinates") else None
    row = RecordRow(entry.identity, entry.digest, entry.value, offset)
    # The scoring span's id died with its scorer; the trace goes on under the same trace id.
    span = TraceContext(decision.trace_id, decision.decision_id[:16], is_sampled=False)
    return outgoing_of(decision, row, span)
