"""Write a verdict down: the Decision message that is recorded, published and answered.

Budget: 10 microseconds a row. Each message is built once and serialised once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.transaction.identity import Identity, decision_id_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision, Freshness, StageTimings
from fraudstream.v1.scoring_pb2 import RowResult, ScoreBatchResponse
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.decision.verdict import EngineTimes, Verdict

# In a protobuf message the last value of a field wins, so appending these bytes sets the flag
# without parsing and serialising the whole decision again.
_REPLAYED: Final = Decision(replayed=True).SerializeToString()
# What stands before the length of a message that is a field of another.
_ACCEPTED: Final = AcceptedTransaction(decision=Decision()).SerializeToString()[:-1]
_RESULT: Final = RowResult(decision=Decision()).SerializeToString()[:-1]
_RESPONSE: Final = ScoreBatchResponse(results=[RowResult()]).SerializeToString()[:-1]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a decision is about, and what it was made from.

    Attributes:
        identity: 16 bytes.
        digest: 32 bytes.
        transaction: With its card token.
        vector: float32 [F], little-endian, as the features service or `preview` made it.
        sequence: float32 [T, C], little-endian.
        freshness: How fresh they were.
        timings: Of the stages before this one.
        span: The scoring span.
        parent: The span that it belongs to, None for a new trace.
        offset: In the shard's log; None for what came by gRPC.
        started_us: When scoring began with it, epoch microseconds.
        asked_by: Name of the caller's grant, or `feed:` and the feed's; empty where unknown.
    """

    identity: Identity
    digest: bytes
    transaction: Transaction
    vector: bytes
    sequence: bytes
    freshness: Freshness
    timings: StageTimings
    span: TraceContext
    parent: TraceContext | None
    offset: int | None
    started_us: int
    asked_by: str = ""


def write_decision(
    template: Decision, subject: Subject, verdict: Verdict, engine: EngineTimes
) -> Decision:
    """Return the decision.

    Args:
        template: Holds what all rows of a call have in common: hashes, versions, coordinates
            without the offset, and when scoring ended.
        subject: What is decided about.
        verdict: What was decided.
        engine: When the engine worked on it.
    """
    transaction = subject.transaction
    decision = Decision()
    decision.CopyFrom(template)
    decision.decision_id = decision_id_of(subject.identity)
    decision.bank_id = transaction.bank_id
    decision.transaction_id = transaction.transaction_id
    decision.card_token = transaction.card_token
    decision.digest = subject.digest
    decision.action = verdict.action
    decision.score = verdict.score
    decision.raw_score = verdict.raw_score
    verdict.why.write_into(decision)
    freshness, timings = subject.freshness, decision.timings
    if subject.offset is not None:  # else there are no coordinates, and no stages before this
        decision.coordinates.offset = subject.offset
        timings.MergeFrom(subject.timings)
    decision.freshness.CopyFrom(freshness)
    timings.scoring_started_us = subject.started_us
    timings.engine_started_us = engine.started_us
    timings.engine_ended_us = engine.ended_us
    if verdict.is_stand_in:
        decision.stand_in = True
        decision.stand_in_cause = verdict.stand_in_cause
    if verdict.is_stand_in or freshness.shared_stale:
        decision.degraded = True
    decision.trace_id = subject.span.trace_id
    decision.batch_bucket = verdict.bucket
    decision.engine_version = verdict.engine_version
    decision.model_hash = verdict.model_hash
    decision.event_time_ms = transaction.event_time_ms
    decision.asked_by = subject.asked_by
    decision.vector = subject.vector
    decision.sequence = subject.sequence
    decision.transaction.CopyFrom(transaction)
    return decision


def mark_replayed(decision: bytes) -> bytes:
    """Return a serialised decision with `replayed` set.

    >>> Decision.FromString(mark_replayed(Decision(score=0.5).SerializeToString())).replayed
    True
    """
    return decision + _REPLAYED


def accepted_row(transaction: Transaction, decision: bytes) -> bytes:
    """Return the serialised accepted row that carries a serialised decision about a transaction.

    >>> row = AcceptedTransaction.FromString(accepted_row(Transaction(mcc="5411"), b""))
    >>> row.transaction.mcc, row.HasField("decision")
    ('5411', True)
    """
    row = AcceptedTransaction(transaction=transaction).SerializeToString()
    return b"".join((row, _ACCEPTED, _varint(len(decision)), decision))


def _varint(number: int) -> bytes:
    """Encode a length as protobuf does: seven bits a byte, low ones first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def wrap_decision(decision: bytes) -> bytes:
    """Return the serialised `RowResult` that holds a serialised decision.

    >>> RowResult.FromString(wrap_decision(b"")).WhichOneof("outcome")
    'decision'
    """
    return _RESULT + _varint(len(decision)) + decision


def wrap_results(results: list[bytes]) -> bytes:
    """Return the serialised `ScoreBatchResponse` of serialised `RowResult`s.

    >>> len(ScoreBatchResponse.FromString(wrap_results([b"", b""])).results)
    2
    """
    return b"".join(_RESPONSE + _varint(len(result)) + result for result in results)
