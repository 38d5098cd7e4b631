"""What the gRPC door does with a decision: record it, hand it to the log, answer it.

With the store gone or the shard closed a decision is provisional: the accepted row that carries it
is acknowledged by the broker before the answer, and it becomes the decision when the stream gets
there, unless an earlier one exists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from fraudstream.crashpoint import crash_point
from fraudstream.errors import ConflictingTransaction, FraudStreamError
from fraudstream.reject_reasons import RejectReason
from fraudstream.shard import RecordAnswer, RecordOutcome, RecordRow, ShardRef
from fraudstream.state_store import StateStore
from fraudstream.v1.decision_pb2 import Decision
from services.scoring.backlog import PublishBacklog
from services.scoring.publish import Outgoing, Publisher, outgoing_of
from services.scoring.record import Written, existing_outgoing
from services.scoring.settings import AnswerAfter
from services.scoring.shards import CardShards

Answer = Decision | FraudStreamError


@dataclass(frozen=True, slots=True)
class Placed:
    """A decision and the partition of its card."""

    partition: int
    written: Written


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

    async def record(self, rows: Sequence[Placed]) -> list[Answer]:
        """Return the answer to each row: its decision, the earlier one, or an error."""
        if not rows:
            return []
        kept = await self._record(rows)
        crash_point("scoring.after_record")
        await self._publish(rows, kept)
        answers: list[Answer | None] = [
            _answer_of(row.written, found) for row, found in zip(rows, kept, strict=True)
        ]
        asking = [place for place, answer in enumerate(answers) if answer is None]
        if asking:
            asked = [self._ask_further(rows[place], kept[place]) for place in asking]
            for place, answer in zip(asking, await asyncio.gather(*asked), strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    async def _record(self, rows: Sequence[Placed]) -> list[_Kept | FraudStreamError]:
        """Record rows, a script a shard; an error of a shard is the answer of its rows only."""
        return await self._shards.work_on(
            [row.partition for row in rows], [row.written.row for row in rows], self._keep
        )

    async def _keep(
        self, lots: Sequence[tuple[ShardRef, Sequence[RecordRow]]]
    ) -> list[list[_Kept] | FraudStreamError]:
        return [
            found
            if isinstance(found, FraudStreamError)
            else [_Kept(shard, answer) for answer in found]
            for (shard, _), found in zip(
                lots, await self._store.record_decisions(lots), strict=True
            )
        ]

    async def _publish(
        self, rows: Sequence[Placed], kept: Sequence[_Kept | FraudStreamError]
    ) -> None:
        """Hand recorded decisions to the log: at once, or in the background."""
        lots: dict[ShardRef, list[Outgoing]] = {}
        for row, found in zip(rows, kept, strict=True):
            outgoing = self._outgoing(row.written, found)
            if outgoing is not None and isinstance(found, _Kept):
                lots.setdefault(found.shard, []).append(outgoing)
        if self._answer_after is AnswerAfter.RECORD:
            for shard, lot in lots.items():
                self._backlog.add(shard, lot)
            return
        if lots:
            await self._publisher.publish(lots)

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

    async def _ask_further(self, row: Placed, found: _Kept | FraudStreamError) -> Answer:
        """Answer what store or broker have to be asked about again."""
        if isinstance(found, FraudStreamError):
            return await self._answer_provisional(row)
        # Where this fails, the entry leaves the card's list when its life is over.
        with suppress(FraudStreamError):
            written = row.written
            await self._store.refuse(
                found.shard, written.decision.card_token, written.subject.identity
            )
        return conflict()

    async def _answer_provisional(self, row: Placed) -> Answer:
        """Answer when the broker has the accepted row that carries the decision."""
        written = row.written
        try:
            await self._publisher.publish_provisional(
                row.partition, written.decision, written.subject.span
            )
        except FraudStreamError as exc:
            return exc
        return for_caller(written.decision)


def _answer_of(written: Written, found: _Kept | FraudStreamError) -> Answer | None:
    """Return the answer to a row, where nobody has to be asked further."""
    if isinstance(found, FraudStreamError):
        return None
    if found.answer.outcome is RecordOutcome.RECORDED:
        return for_caller(written.decision)
    if found.answer.outcome is RecordOutcome.EXISTS:
        return repeated(found.answer.value)
    return None


def for_caller(decision: Decision) -> Decision:
    """Return a decision without the model's inputs, which stay in the log. Changes it in place."""
    decision.ClearField("vector")
    decision.ClearField("sequence")
    return decision


def repeated(value: bytes) -> Decision:
    """Return a recorded decision as the answer to a repeated call."""
    decision = for_caller(Decision.FromString(value))
    decision.replayed = True
    return decision


def conflict() -> ConflictingTransaction:
    """Return the error of a known id with another body."""
    return ConflictingTransaction(f"{RejectReason.ID_CONFLICT}: {RejectReason.ID_CONFLICT.text}")
