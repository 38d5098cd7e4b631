"""The card role: one poll of accepted rows to decisions, then the fenced state write.

Order in a shard: read marker, claims, records and states; advance; have the rows scored; send the
entities' rows; write states, claims and marker. A crash anywhere replays the batch from the
same states to the same decisions. Budget beyond scoring: 60 microseconds of CPU a row.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fraudstream.broker.batch_agent import Finished, Records
from fraudstream.broker.quarantine import report
from fraudstream.errors import BrokerUnavailable
from fraudstream.features.stored_values import CARD
from fraudstream.reject_reasons import QuarantineReason, RejectReason
from fraudstream.runtime.crashpoint import crash_point
from fraudstream.store.entity_reader import EntityReader
from fraudstream.store.shard import pack_claim
from fraudstream.store.shard_store import (
    RECORD_LIFE_S,
    STATE_LIFE_S,
    ShardWrite,
    StateStore,
    StoredValue,
)
from fraudstream.telemetry.metrics import BATCH_ROWS, FEATURES_ROWS
from fraudstream.v1.decision_pb2 import Decision
from services.features.roles.shard_loop import ShardLoop, ShardOwner
from services.features.rows.accepted_rows import (
    AcceptedRow,
    BadRow,
    RowClass,
    at_odds,
    decode_row,
    judge_rows,
    placed_row,
)
from services.features.rows.card_batch import CardBatch, advance_batch
from services.features.rows.dead_letters import Letters
from services.features.rows.entity_row_sender import EntityRowSender
from services.features.rows.scoring_client import ScoringStub
from services.features.rows.scoring_request import request_of
from services.features.rows.spans import SpanWriter

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CardParts:
    """What the card role is made of."""

    store: StateStore
    owner: ShardOwner
    entities: EntityReader
    sender: EntityRowSender
    scoring: ScoringStub
    letters: Letters
    spans: SpanWriter
    clock_us: Callable[[], int]
    sample_ratio: float


class CardRole:
    """Handles polls of the accepted topic. Shards of one poll succeed or fail each for itself."""

    def __init__(self, parts: CardParts) -> None:
        """Keep the parts."""
        self._parts = parts
        self._shards = ShardLoop(parts.owner, self._work)

    def assigned(self, partitions: set[int]) -> None:
        """Forget every position."""
        self._shards.assigned(partitions)
        self._parts.sender.forget_all()

    async def handle(self, records: Records) -> Finished:
        """Take every shard further, then tell the entity shards how far."""
        finished = await self._shards.handle(records)
        await self._beat(finished, records)
        return finished

    async def _beat(self, finished: Finished, records: Records) -> None:
        """Tell idle entity shards how far we are; where the broker is away, at the next poll."""
        positions = self._parts.owner.positions
        behind = {p for p, at in finished.items() if p in records or positions.is_behind(p, at)}
        try:
            await self._parts.sender.beat(finished, behind)
        except BrokerUnavailable as exc:
            _LOG.warning("no heartbeat: %s", exc)

    async def _work(self, partition: int, at: int, records: Records) -> int:
        """Take one shard from `at` to the end of its records."""
        positions = self._parts.owner.positions
        fresh = positions.rows_from(partition, at, records[partition])
        if not fresh:
            return at
        to: int = fresh[-1].offset + 1
        started_us = self._parts.clock_us()
        decoded = [
            placed_row(decode_row(record, self._parts.sample_ratio), positions.partitions)
            for record in fresh
        ]
        positions.refuse_if_stood_still(partition, min(row.waits_since_ms for row in decoded))
        await self._bury(decoded)
        rows = [row for row in decoded if isinstance(row, AcceptedRow)]
        batch = await self._read(partition, at, rows)
        crash_point("features.after_read")
        decisions = await self._decide(batch, started_us)
        crash_point("features.before_state_write")
        await self._write(batch, rows, to)
        positions.moved(partition, to)
        crash_point("features.after_state_write")
        self._parts.spans.write(batch.rows, decisions, started_us)
        return to

    async def _bury(self, decoded: Sequence[AcceptedRow | BadRow]) -> None:
        """Send the letters of bad rows, unless it is this worker that is wrong about them.

        Of what is no row of ours the quarantine is told.
        """
        bad = [row for row in decoded if isinstance(row, BadRow)]
        if any(row.reason == RejectReason.PARTITION_MISMATCH for row in bad):
            await self._parts.owner.positions.refuse_if_outdated()
        for row in bad:
            if not row.is_ours:
                report(row.record, QuarantineReason(row.reason), row.message)
        await self._parts.letters.bury([row for row in bad if row.is_ours])

    async def _read(self, partition: int, at: int, rows: list[AcceptedRow]) -> CardBatch:
        """Read what the rows need, bury conflicts, and compute the features of what counts."""
        store, shard = self._parts.store, self._parts.owner.positions.shard(partition)
        names = store.keys(shard)
        cards = list(dict.fromkeys(row.card_token for row in rows))
        keys = [names.claim(row.identity) for row in rows]
        keys += [names.record(row.identity) for row in rows]
        keys += [names.state(CARD, card) for card in cards]
        values, shared = await asyncio.gather(
            store.read_shard(shard, at, keys),
            self._parts.entities.read({row.entities for row in rows}, shard.incarnation),
        )
        count = len(rows)
        # Only scoring knows whether a record is its own.
        odd = at_odds(rows, values[count : 2 * count])
        if odd and await self._parts.scoring.check_records(partition, odd):
            values = await store.read_shard(shard, at, keys)
        row_classes = judge_rows(rows, values[:count], values[count : 2 * count])
        for row_class, times in Counter(row_classes).items():
            FEATURES_ROWS.labels(row_class.value).inc(times)
        message = "the id is known with another digest"
        await self._parts.letters.bury(
            [
                BadRow(row.record, RejectReason.ID_CONFLICT, message)
                for row, row_class in zip(rows, row_classes, strict=True)
                if row_class is RowClass.CONFLICT
            ]
        )
        counted = [r for r, v in zip(rows, row_classes, strict=True) if v is RowClass.COUNTED]
        BATCH_ROWS.labels("features").observe(len(counted))
        return advance_batch(
            shard, at, counted, dict(zip(cards, values[2 * count :], strict=True)), shared
        )

    async def _decide(self, batch: CardBatch, started_us: int) -> list[Decision]:
        """Have the batch scored, then send the entities' rows; both acknowledged on return.

        In this order: until its decision is recorded, a row may still turn out to be a conflict,
        and a row that does not count must not reach a terminal.
        """
        if not batch.rows:
            return []
        request = request_of(batch, started_us, self._parts.clock_us())
        decisions = await self._parts.scoring.decide(request)
        await self._parts.sender.send(batch)
        return decisions

    async def _write(self, batch: CardBatch, rows: list[AcceptedRow], to: int) -> None:
        """Write states, claims and marker: the commit point."""
        names = self._parts.store.keys(batch.shard)
        values = [
            StoredValue(names.state(CARD, card), content, STATE_LIFE_S)
            for card, content in batch.packed_cards()
        ]
        values += [
            StoredValue(
                names.claim(row.identity),
                pack_claim(row.digest, row.record.offset),
                RECORD_LIFE_S,
            )
            for row in batch.rows
        ]
        write = ShardWrite(
            from_offset=batch.from_offset,
            to_offset=to,
            values=values,
            cards=list({row.card_token for row in rows}),
            finished=[row.identity + row.digest for row in rows],
        )
        await self._parts.store.write_shard(batch.shard, write)
