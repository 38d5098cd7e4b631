"""Decisions on their way into the store and back to the caller. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

from fraudstream.reject_reasons import RejectReason
from fraudstream.shard import RecordAnswer, RecordOutcome, RecordRow
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.scoring_pb2 import RowError, RowResult
from services.scoring.publish import Outgoing, outgoing_of
from services.scoring.written import Subject, mark_replayed, wrap_decision

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
        row: The same, serialised, as the store takes it.
    """

    subject: Subject
    decision: Decision
    row: RecordRow


def written_row(subject: Subject, decision: Decision) -> Written:
    """Serialise a decision, once."""
    row = RecordRow(subject.identity, subject.digest, decision.SerializeToString(), subject.offset)
    return Written(subject, decision, row)


def existing_outgoing(row: Written, answer: RecordAnswer) -> Outgoing:
    """Return what has to be published for a row whose decision existed already."""
    stored = RecordRow(row.row.identity, row.row.digest, answer.value, row.row.offset)
    return outgoing_of(Decision.FromString(answer.value), stored, row.subject.span)


def result_of(row: Written, answer: RecordAnswer) -> bytes:
    """Return the serialised `RowResult` of a row that the store has answered."""
    if answer.outcome is RecordOutcome.RECORDED:
        return wrap_decision(row.row.value)
    if answer.outcome is RecordOutcome.EXISTS:
        return wrap_decision(mark_replayed(answer.value))
    return _CONFLICT_RESULT
