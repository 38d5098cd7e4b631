"""What the gRPC door does with a decision: record it, hand it to the log, answer it.

With the store gone or the shard closed a decision is provisional: the accepted row that carries it
goes to the broker, and it becomes the decision when the stream gets there, unless an earlier one
exists. What was recorded a moment ago is remembered here, so that a repeat gets it even then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from fraudstream.errors import BrokerUnavailable, ConflictingTransaction, FraudStreamError
from fraudstream.runtime.crashpoint import crash_point
from fraudstream.store.shard import RecordAnswer, RecordOutcome, RecordRow, ShardRef
from fraudstream.store.shard_store import StateStore
from fraudstream.v1.decision_pb2 import Decision
from services.scoring.authorise.answers import conflict, for_caller, repeated
from services.scoring.decision.recorded import Written
from services.scoring.publishing.backlog import settled_by_sweep
from services.scoring.publishing.decision_backlog import PublishBacklog
from services.scoring.publishing.publisher import (
    Outgoing,
    Publisher,
    existing_outgoing,
    outgoing_of,
)
from services.scoring.rpc.rare_log import RareWarning
from services.scoring.settings import AnswerAfter
from services.scoring.shards.card_shards import CardShards

_LOG: Final = logging.getLogger(__name__)

Answer = Decision | FraudStreamError

# Rows that wait for store or broker at once; some 20 MB. With both away it is full soon.
_MOST_WAITING: Final = 4_096
# Recorded decisions that are remembered; some 20 MB.
_MOST_REMEMBERED: Final = 4_096


@dataclass(frozen=True, slots=True)
class Placed:
    """A decision and the partition of its card."""

    partition: int
    written: Written


@dataclass(frozen=True, slots=True)
class Provisional:
    """A decision that no store has recorded.

    Attributes:
        decision: What was decided.
        sending: Done when the broker has the accepted row that carries it; may raise
            `BrokerUnavailable`.
    """

    decision: Decision
    sending: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the store said of one decision, and the shard that it was said of."""

    shard: ShardRef
    answer: RecordAnswer


class DoorRecords:
    """Records and publishes the decisions of the gRPC door."""

    def __init__(
        self,
        store: StateStore,
        shards: CardShards,
        publisher: Publisher,
        backlog: PublishBacklog,
        answer_after: AnswerAfter,
    ) -> None:
        self._store = store
        self._shards = shards
        self._publisher = publisher
        self._backlog = backlog
        self._answer_after = answer_after
        self._waiting = 0
        self._sending: set[asyncio.Task[None]] = set()
        self._remembered: dict[bytes, RecordRow] = {}
        self._unrecorded = RareWarning(_LOG, "%d decisions could not be recorded: %s")

    async def record(self, rows: Sequence[Placed]) -> list[Answer | Provisional]:
        """Return the answer to each row: its decision, the earlier one, or an error."""
        if not rows:
            return []
        if self._waiting + len(rows) > _MOST_WAITING:
            msg = f"neither store nor broker answers: {self._waiting} decisions wait for them"
            return [BrokerUnavailable(msg)] * len(rows)
        self._waiting += len(rows)
        try:
            kept = await self._record(rows)
            crash_point("scoring.after_record")
            await self._publish(rows, kept)
        except BrokerUnavailable as exc:
            return [exc] * len(rows)
        finally:
            self._waiting -= len(rows)
        return await self._answers(rows, kept)

    async def _answers(
        self, rows: Sequence[Placed], kept: Sequence[_Kept | FraudStreamError]
    ) -> list[Answer | Provisional]:
        answers: list[Answer | Provisional | None] = [
            None if isinstance(found, FraudStreamError) else self._answer_kept(row.written, found)
            for row, found in zip(rows, kept, strict=True)
        ]
        unrecorded = [index for index, answer in enumerate(answers) if answer is None]
        for fault in (kept[index] for index in unrecorded):
            if isinstance(fault, FraudStreamError):
                self._unrecorded.say(1, fault)
        sent = self._answer_unrecorded([rows[index] for index in unrecorded])
        for index, answer in zip(unrecorded, sent, strict=True):
            answers[index] = answer
        await asyncio.gather(
            *(
                self._drop_pending(row.written, found.shard)
                for row, found, answer in zip(rows, kept, answers, strict=True)
                if isinstance(found, _Kept) and isinstance(answer, ConflictingTransaction)
            )
        )
        return [answer for answer in answers if answer is not None]

    async def _record(self, rows: Sequence[Placed]) -> list[_Kept | FraudStreamError]:
        """Record rows, a script a shard; an error of a shard is the answer of its rows only."""
        return await self._shards.work_on(
            [row.partition for row in rows], [row.written.row for row in rows], self._keep
        )

    async def _keep(
        self, batches: Sequence[tuple[ShardRef, Sequence[RecordRow]]]
    ) -> list[list[_Kept] | FraudStreamError]:
        return [
            found
            if isinstance(found, FraudStreamError)
            else [_Kept(shard, answer) for answer in found]
            for (shard, _), found in zip(
                batches, await self._store.record_decisions(batches), strict=True
            )
        ]

    async def _publish(
        self, rows: Sequence[Placed], kept: Sequence[_Kept | FraudStreamError]
    ) -> None:
        """Hand recorded decisions to the log: at once, or in the background."""
        batches: dict[ShardRef, list[Outgoing]] = {}
        for row, found in zip(rows, kept, strict=True):
            outgoing = self._outgoing(row.written, found)
            if outgoing is not None and isinstance(found, _Kept):
                batches.setdefault(found.shard, []).append(outgoing)
        if self._answer_after is AnswerAfter.RECORD:
            for shard, batch in batches.items():
                self._backlog.add(shard, batch)
            return
        if not batches:
            return
        with settled_by_sweep("decisions"):
            await self._publisher.publish(batches)

    def _outgoing(self, written: Written, found: _Kept | FraudStreamError) -> Outgoing | None:
        """Return what has to be published of one row, None for nothing.

        A decision that existed already was published by whoever recorded it, or will be by the
        sweep; a caller who waits for the acknowledgement does not wait for the sweep.
        """
        if isinstance(found, FraudStreamError):
            return None
        if found.answer.outcome is RecordOutcome.RECORDED:
            return outgoing_of(written.decision, written.row, written.subject.span)
        is_repeat = found.answer.outcome is RecordOutcome.EXISTS
        if is_repeat and self._answer_after is AnswerAfter.ACK:
            return existing_outgoing(written, found.answer)
        return None

    def _answer_kept(self, written: Written, found: _Kept) -> Answer:
        """Return the recorded decision of a row, or the error of one that another body has."""
        if found.answer.outcome is RecordOutcome.RECORDED:
            self._remember(written.row)
            return for_caller(written.decision)
        if found.answer.outcome is RecordOutcome.EXISTS:
            self._remember(replace(written.row, value=found.answer.value))
            return repeated(found.answer.value)
        return conflict()

    async def _drop_pending(self, written: Written, shard: ShardRef) -> None:
        """Take a refused row out of its card's list."""
        # Where this fails, the entry leaves the card's list when its life is over.
        with suppress(FraudStreamError):
            await self._store.refuse(shard, written.decision.card_token, written.subject.identity)

    def _remember(self, row: RecordRow) -> None:
        while len(self._remembered) >= _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[row.identity] = row

    def _answer_unrecorded(self, rows: Sequence[Placed]) -> list[Answer | Provisional]:
        """Answer what no store recorded: as remembered, else while the broker takes it."""
        answers = [self._remembered_answer(row.written.row) for row in rows]
        batches: dict[int, list[Written]] = {}
        for row, answer in zip(rows, answers, strict=True):
            if answer is None:
                batches.setdefault(row.partition, []).append(row.written)
        sending = {partition: self._send(partition, batch) for partition, batch in batches.items()}
        return [
            answer or Provisional(row.written.decision, sending[row.partition])
            for row, answer in zip(rows, answers, strict=True)
        ]

    def _remembered_answer(self, row: RecordRow) -> Answer | None:
        known = self._remembered.get(row.identity)
        if known is None:
            return None
        return repeated(known.value) if known.digest == row.digest else conflict()

    def _send(self, partition: int, batch: Sequence[Written]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._send_batch(partition, batch))
        self._sending.add(task)
        task.add_done_callback(self._forget)
        return task

    async def _send_batch(self, partition: int, batch: Sequence[Written]) -> None:
        self._waiting += len(batch)
        try:
            await self._publisher.publish_provisional(partition, batch)
        finally:
            self._waiting -= len(batch)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and isinstance(task.exception(), FraudStreamError):
            _LOG.warning("provisional decisions are not in the log: %s", task.exception())
