"""Decisions on their way into the store and back to the caller. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

from fraudstream.reject_reasons import RejectReason
from fraudstream.store.shard import RecordAnswer, RecordOutcome, RecordRow
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import RowError, RowResult
from services.scoring.decision.message import Subject, mark_replayed, wrap_decision
from services.scoring.shards.seal import Seal

CONFLICT: Final = RowError(
    code=grpc.StatusCode.ALREADY_EXISTS.value[0],
    reason=RejectReason.ID_CONFLICT.value,
    message=RejectReason.ID_CONFLICT.text,
)
_CONFLICT_RESULT: Final = RowResult(error=CONFLICT).SerializeToString()


@dataclass(frozen=True, slots=True)
class Written:
    """A decision ready to be recorded.

    Attributes:
        subject: What it is about.
        decision: The message.
        row: The same, serialised and sealed, as the store takes it.
    """

    subject: Subject
    decision: Decision
    row: RecordRow


def written_row(subject: Subject, decision: Decision, seal: Seal) -> Written:
    """Serialise and seal a decision, once."""
    value = seal.sealed(subject.identity, subject.digest, decision.SerializeToString())
    return Written(subject, decision, _row_of(subject, value))


def carried_row(subject: Subject, decision: Decision, seal: Seal) -> Written | None:
    """Return the decision that a row brings, None where scoring has not sealed it.

    It is serialised as it was before: its fields in their order, the seal last.
    """
    value = decision.SerializeToString()
    if not seal.is_true(subject.identity, subject.digest, value):
        return None
    if not decision.seal:
        return written_row(subject, decision, seal)
    return Written(subject, decision, _row_of(subject, value))


def _row_of(subject: Subject, value: bytes) -> RecordRow:
    return RecordRow(subject.identity, subject.digest, value, subject.offset)


def result_of(row: Written, answer: RecordAnswer) -> bytes:
    """Return the serialised `RowResult` of a row that the store has answered."""
    if answer.outcome is RecordOutcome.RECORDED:
        return wrap_decision(row.row.value)
    if answer.outcome is RecordOutcome.EXISTS:
        return wrap_decision(mark_replayed(answer.value))
    return _CONFLICT_RESULT
