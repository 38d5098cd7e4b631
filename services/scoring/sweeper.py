"""Publish what a dead scorer recorded and did not publish: every scorer sweeps every shard.

Two scorers that sweep at once publish the same decision twice, which no consumer minds: the first
record of an identity is its decision, and both are the same bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from fraudstream.errors import FraudStreamError, ShardClosed
from fraudstream.shard import OutboxEntry, RecordRow
from fraudstream.state_store import StateStore
from fraudstream.telemetry import OUTBOX_SWEPT, TraceContext
from fraudstream.v1.decision_pb2 import Decision
from services.scoring.publish import Outgoing, Publisher, outgoing_of
from services.scoring.shards import CardShards

_LIMIT: Final = 256

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SweepTimes:
    """When to sweep, and what.

    Attributes:
        every_ms: Between two sweeps.
        after_ms: Entries at least so old; younger ones are being published by their scorer.
    """

    every_ms: int
    after_ms: int


class Sweeper:
    """Sweeps the outboxes of all card shards."""

    def __init__(
        self,
        store: StateStore,
        shards: CardShards,
        publisher: Publisher,
        times: SweepTimes,
        clock_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._shards = shards
        self._publisher = publisher
        self._times = times
        self._clock_ms = clock_ms

    async def sweep_forever(self) -> None:
        """Sweep, wait, sweep."""
        while True:
            try:
                await self.sweep()
            except FraudStreamError as exc:
                _LOG.warning("the outboxes could not be swept: %s", exc)
            await asyncio.sleep(self._times.every_ms / 1000)

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
        older_than_ms = self._clock_ms() - self._times.after_ms
        entries = await self._store.unpublished(shard, older_than_ms, _LIMIT)
        outgoing = [row for row in map(_outgoing_of, entries) if row is not None]
        if outgoing:
            await self._publisher.publish({shard: outgoing})
            OUTBOX_SWEPT.inc(len(entries))
            _LOG.warning("shard %d: %d decisions were left unpublished", partition, len(entries))
        return len(entries)


def _outgoing_of(entry: OutboxEntry) -> Outgoing | None:
    """Return what has to be published of an entry, None where nobody can read it."""
    try:
        decision = Decision.FromString(entry.value)
    except DecodeError:
        _LOG.error("outbox entry %s holds no decision", entry.identity.hex())
        return None
    offset = decision.coordinates.offset if decision.HasField("coordinates") else None
    row = RecordRow(entry.identity, entry.digest, entry.value, offset)
    # The scoring span's id died with its scorer; the trace goes on under the same trace id.
    span = TraceContext(decision.trace_id, decision.decision_id[:16], is_sampled=False)
    return outgoing_of(decision, row, span)
