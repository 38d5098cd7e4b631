"""Rules taken away: each is a guard replaced in a script, or a class that lacks one step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc.aio
from aiokafka import ConsumerRecord

from fraudstream.broker.log_reader import ReadChunks
from fraudstream.errors import BrokerUnavailable, ModelNotLoaded
from fraudstream.store.generations import Generations
from fraudstream.store.shard import ShardRef, pack_claim
from fraudstream.store.shard_store import RECORD_LIFE_S, StateStore, StoredValue
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest
from services.features.rebuild.card_filler import CardFiller
from services.features.roles.card import CardRole
from services.features.rows.accepted_rows import AcceptedRow
from services.features.rows.card_batch import CardBatch
from services.scoring.decision.recorded import Written
from services.scoring.publishing.publisher import Publisher
from tests.faults.memory_store import Removals
from tests.faults.processes import BeatingSender, Classes, LocalScoring
from tests.faults.rebuilding import MemoryPositions


@dataclass(frozen=True, slots=True)
class Without:
    """What a run lacks.

    Attributes:
        scripts: Guards of scripts, and what stands in their place.
        classes: Classes that lack a step.
        rule: Name of a rule that the trace itself leaves out, where it is not one of the services'.
    """

    scripts: Removals = field(default_factory=dict)
    classes: Classes = field(default_factory=Classes)
    rule: str = ""


NOTHING: Final = Without()

_WRITE_FENCE: Final = ("if next_offset ~= ARGV[4] then return {'moved', next_offset} end", "")
_READ_FENCE: Final = (
    "if ARGV[4] ~= '' and next_offset ~= ARGV[4] then return {'moved', next_offset} end",
    "",
)
_RECORD_READ: Final = (
    "  answer[position + 1] = redis.call('GET', KEYS[position])",
    "  answer[position + 1] = not string.find(KEYS[position], ':record:')"
    " and redis.call('GET', KEYS[position])",
)
_KNOWN_READ: Final = (
    "  local record = record_at(KEYS[position])\n"
    "  local claim = redis.call('GET', KEYS[position + 1])\n",
    "  local record, claim = false, false\n",
)
_GHOST: Final = (
    "  if struct.unpack('<i8', entry, 49) >= decided_by then return false end",
    "  do return false end",
)
_OPENING: Final = (" and redis.call('GET', KEYS[2]) == serving() then", " then")
_PUT_BACK: Final = ("redis.call('EXISTS', KEYS[position]) == 1", "true")


class BelievesItsWrites(MemoryPositions):
    """Commits where its last batch ended, whatever became of the write."""

    _ended_at = 0

    def rows_from(
        self, partition: int, at: int, records: Sequence[ConsumerRecord]
    ) -> Sequence[ConsumerRecord]:
        """Remember where the batch ends."""
        fresh = super().rows_from(partition, at, records)
        self._ended_at = fresh[-1].offset + 1 if fresh else self._ended_at
        return fresh

    def forget(self, partition: int) -> None:
        """Forget nothing."""
        self.moved(partition, self._ended_at)


class NeverLooks(MemoryPositions):
    """Reads the marker of an idle shard once only."""

    async def check(self, partition: int) -> None:
        """Look at nothing."""


class WritesCountedOnly(CardRole):
    """Writes nothing for a batch in which no row counts."""

    async def _write(self, batch: CardBatch, rows: list[AcceptedRow], to: int) -> None:
        if batch.rows:
            await super()._write(batch, rows, to)


class ClaimsEarly(CardRole):
    """Writes claims as soon as rows are judged."""

    async def _decide(self, batch: CardBatch, started_us: int) -> list[Decision]:
        names = self._parts.store.keys(batch.shard)
        await self._parts.store.fill(
            [
                StoredValue(
                    names.claim(row.identity),
                    pack_claim(row.digest, row.record.offset),
                    RECORD_LIFE_S,
                )
                for row in batch.rows
            ]
        )
        return await super()._decide(batch, started_us)


class _NoClaims(Generations):
    """Fills states only."""

    async def fill(self, values: Iterable[StoredValue]) -> int:
        """Fill what is no claim."""
        return await super().fill(value for value in values if ":claim:" not in value.key)


class ForgetsClaims(CardFiller):
    """Rebuilds states without claims."""

    def __init__(self, store: StateStore, chunks: ReadChunks, clock_ms: Callable[[], int]) -> None:
        super().__init__(store, chunks, clock_ms)
        self._generations = _NoClaims(store)


class _NoRecords(Generations):
    """Restores nothing."""

    async def restore(self, records: Iterable[StoredValue]) -> int:
        """Write nothing."""
        return sum(1 for _ in records)


class ForgetsRecords(CardFiller):
    """Rebuilds without decision records."""

    def __init__(self, store: StateStore, chunks: ReadChunks, clock_ms: Callable[[], int]) -> None:
        super().__init__(store, chunks, clock_ms)
        self._generations = _NoRecords(store)


class _NoOutbox(Generations):
    """Puts nothing into the outbox."""

    async def fill_outbox(self, shard: ShardRef, identities: Iterable[bytes]) -> None:
        """Write nothing."""


class ForgetsRows(CardFiller):
    """Has no accepted row sent again."""

    def __init__(self, store: StateStore, chunks: ReadChunks, clock_ms: Callable[[], int]) -> None:
        super().__init__(store, chunks, clock_ms)
        self._generations = _NoOutbox(store)


class ForgetsAlerts(CardFiller):
    """Takes every alert that was asked for as raised."""

    async def _publish_again(self, replay: Any) -> None:
        """Have nothing published for the sake of an alert."""
        replay.decided.forgive_alerts(2**62)
        await super()._publish_again(replay)


class DeferredSender(BeatingSender):
    """Keeps a batch until it is asked for it."""

    kept: CardBatch | None = None

    async def send(self, batch: CardBatch) -> None:
        """Keep the batch."""
        self.kept = batch

    async def send_kept(self) -> None:
        """Send it."""
        if self.kept is not None:
            await super().send(self.kept)


class SendsAfterwards(CardRole):
    """Sends the entities' rows after the state write."""

    async def _write(self, batch: CardBatch, rows: list[AcceptedRow], to: int) -> None:
        await super()._write(batch, rows, to)
        sender: Any = self._parts.sender
        await sender.send_kept()


class GoesOnAfterFailures(BeatingSender):
    """Takes a failed send for a good one."""

    async def send(self, batch: CardBatch) -> None:
        """Send, or not."""
        with suppress(BrokerUnavailable):
            await super().send(batch)


class DeafToConflicts(LocalScoring):
    """Takes a refused row for a decided one."""

    async def decide(self, request: FeatureBatchRequest) -> list[Decision]:
        """Return whatever came."""
        try:
            response = await self._stub.ScoreBatch(
                request, timeout=self._timeout_s, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as exc:
            msg = "no scorer answers"
            raise ModelNotLoaded(msg) from exc
        return [result.decision for result in response.results]


class AnswersFirst(Publisher):
    """Does not wait for the accepted row of a provisional decision."""

    async def publish_provisional(self, partition: int, rows: Sequence[Written]) -> None:
        """Publish some time."""
        sending = super().publish_provisional(partition, rows)
        self._sending = asyncio.get_running_loop().create_task(sending)


PARTIAL_SUCCESS: Final = Without(
    {"read_shard": [_READ_FENCE], "write_shard": [_WRITE_FENCE]},
    Classes(positions=BelievesItsWrites),
)
WRITE_FENCE: Final = Without({"write_shard": [_WRITE_FENCE]})
EMPTY_WRITES: Final = Without(classes=Classes(card_role=WritesCountedOnly))
RECORD_WINS: Final = Without({"read_shard": [_RECORD_READ]}, Classes(scoring=DeafToConflicts))
APPEND_IF_ABSENT: Final = Without({"admit": [_KNOWN_READ]})
DROP_GHOSTS: Final = Without({"admit": [_GHOST]})
IDLE_CHECK: Final = Without(classes=Classes(positions=NeverLooks))
PUT_BACK: Final = Without({"settle_published": [_PUT_BACK]})
OPENING_WITNESSED: Final = Without({"open_shard": [_OPENING]})
CLAIMS_WITH_STATES: Final = Without(classes=Classes(card_role=ClaimsEarly))
CLAIMS_RESTORED: Final = Without(classes=Classes(card_filler=ForgetsClaims))
RECORDS_RESTORED: Final = Without(classes=Classes(card_filler=ForgetsRecords))
ROWS_SENT_AGAIN: Final = Without(classes=Classes(card_filler=ForgetsRows))
ALERTS_RAISED_AGAIN: Final = Without(classes=Classes(card_filler=ForgetsAlerts))
SENT_BEFORE_WRITE: Final = Without(
    classes=Classes(card_role=SendsAfterwards, sender=DeferredSender)
)
STOP_AT_FAILURE: Final = Without(classes=Classes(sender=GoesOnAfterFailures))
ACKNOWLEDGED_FIRST: Final = Without(classes=Classes(publisher=AnswersFirst))
