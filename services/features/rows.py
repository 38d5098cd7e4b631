"""Decode accepted rows, and tell which of them count. Pure: bytes in, verdicts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from aiokafka import ConsumerRecord
from google.protobuf.message import DecodeError

from fraudstream.features.codec import EntityKeys, entity_keys
from fraudstream.features.state import is_packable
from fraudstream.identity import DIGEST_BYTES, Digest, Identity, digest_of, identity_of
from fraudstream.telemetry import TRACEPARENT, TraceContext
from fraudstream.v1.decision_pb2 import AcceptedTransaction


@dataclass(frozen=True, slots=True)
class AcceptedRow:
    """One row of the accepted topic.

    Attributes:
        record: Where it was read.
        accepted: What it says.
        identity: Of its transaction.
        digest: Of its transaction.
        entities: Keys of its shared entities.
        parent: Trace context that came with it.
        trace: Context of this service's span.
    """

    record: ConsumerRecord
    accepted: AcceptedTransaction
    identity: Identity
    digest: Digest
    entities: EntityKeys
    parent: TraceContext | None
    trace: TraceContext

    @property
    def card_token(self) -> str:
        """The card it belongs to."""
        return self.accepted.transaction.card_token


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record of the accepted topic that breaks the contract."""

    record: ConsumerRecord
    reason: str
    message: str


def decode_row(record: ConsumerRecord, sample_ratio: float) -> AcceptedRow | BadRow:
    """Decode one record; what nobody should have written there is a `BadRow`, not an error."""
    if record.key is None:
        return BadRow(record, "KEY_MISSING", "expected the card token as key, found none")
    try:
        accepted = AcceptedTransaction.FromString(record.value or b"")
    except DecodeError:
        return BadRow(record, "DECODE", "expected an AcceptedTransaction, found other bytes")
    transaction = accepted.transaction
    if not transaction.card_token or record.key != transaction.card_token.encode():
        return BadRow(record, "KEY_MISMATCH", "expected the card token as key, found another")
    if not is_packable(transaction):
        return BadRow(record, "RANGE", "expected numbers that a state can hold, found others")
    headers = dict(record.headers)
    parent = TraceContext.parse(headers.get(TRACEPARENT))
    return AcceptedRow(
        record,
        accepted,
        identity_of(transaction.bank_id, transaction.card_token, transaction.transaction_id),
        digest_of(transaction),
        entity_keys(transaction),
        parent,
        parent.child() if parent else TraceContext.start(sample_ratio),
    )


class Verdict(StrEnum):
    """What becomes of an accepted row."""

    COUNTED = "scored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


def judge_rows(
    rows: Sequence[AcceptedRow],
    claims: Sequence[bytes | None],
    records: Sequence[bytes | None],
) -> list[Verdict]:
    """Tell which rows count, in order, the batch's own rows included.

    Args:
        rows: Rows of one shard.
        claims: Stored claim of each row's identity: digest and offset.
        records: Stored decision record of each row's identity, beginning with its digest.
    """
    claimed: dict[Identity, bytes] = {}
    verdicts = []
    for row, claim, record in zip(rows, claims, records, strict=True):
        known = claimed.get(row.identity, claim[:DIGEST_BYTES] if claim else None)
        decided = record[:DIGEST_BYTES] if record else None
        verdict = _judge(row.digest, known, decided)
        if verdict is Verdict.COUNTED:
            claimed[row.identity] = row.digest
        verdicts.append(verdict)
    return verdicts


def _judge(digest: bytes, claimed: bytes | None, decided: bytes | None) -> Verdict:
    """Judge one row: the decision's digest wins over the claim's, and the first claim counts."""
    if decided is not None and decided != digest:
        return Verdict.CONFLICT
    if claimed is None:
        return Verdict.COUNTED
    if claimed == digest:
        return Verdict.DUPLICATE
    return Verdict.COUNTED if decided == digest else Verdict.CONFLICT
