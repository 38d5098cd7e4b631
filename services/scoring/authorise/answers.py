"""What a gRPC caller is answered: a decision, new, repeated or provisional, or a conflict."""

from __future__ import annotations

from fraudstream.errors import ConflictingTransaction
from fraudstream.reject_reasons import RejectReason
from fraudstream.v1.decision_pb2 import Decision


def for_caller(decision: Decision) -> Decision:
    """Return a decision without what stays in the log: inputs and seal. Changes it in place."""
    decision.ClearField("vector")
    decision.ClearField("sequence")
    decision.ClearField("seal")
    return decision


def provisional(decision: Decision) -> Decision:
    """Return a decision that is not recorded yet as the answer to its caller."""
    answer = Decision()
    answer.CopyFrom(decision)  # what is being recorded stays as it is
    answer.provisional = True
    return for_caller(answer)


def repeated(value: bytes) -> Decision:
    """Return a recorded decision as the answer to a repeated call."""
    decision = for_caller(Decision.FromString(value))
    decision.replayed = True
    return decision


def conflict() -> ConflictingTransaction:
    """Return the error of a known id with another body."""
    return ConflictingTransaction(f"{RejectReason.ID_CONFLICT}: {RejectReason.ID_CONFLICT.text}")
