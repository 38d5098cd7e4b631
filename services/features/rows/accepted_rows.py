"""Decode accepted rows, and tell which of them count. Pure: bytes in, row classes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiokafka import ConsumerRecord

from fraudstream.broker.messages import NotOurs, read_message
from fraudstream.broker.wire.record_macs import writer_of
from fraudstream.card_data.detector import CardData
from fraudstream.features.stored_values import EntityKeys, entity_keys
from fraudstream.reject_reasons import QuarantineReason, RejectReason
from fraudstream.telemetry.trace_context import TRACEPARENT, TraceContext
from fraudstream.topics import DAY_MS, RAW, partition_of
from fraudstream.transaction.event_time import FUTURE_LONGEST_MS, LATENESS_LONGEST_MS
from fraudstream.transaction.identity import DIGEST_BYTES, Digest, Identity, digest_of, identity_of
from fraudstream.transaction.validate import find_card_data
from fraudstream.v1.decision_pb2 import AcceptedTransaction

# It reads banks' bytes, and decides nothing.
_INGEST: Final = "ingest"
# A record lives as long as the youngest of its segment, which Kafka closes after seven days.
_RAW_LONGEST_MS: Final = RAW.retention_ms + 7 * DAY_MS


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

    @property
    def waits_since_ms(self) -> int:
        """When a log first took it: its time in the raw topic counts, what came by gRPC has none.

        `decode_row` takes away a time that ingest cannot have written.

        Lateness is judged by the append time of the raw topic, so the life of decision records is
        counted against that one too.
        """
        appended_ms: int = self.record.timestamp
        return min(self.accepted.raw_append_time_ms or appended_ms, appended_ms)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record of the accepted or labels topic that is not worked on.

    Attributes:
        record: Where it was read.
        reason: Of a row of ours that cannot be decided (a dead letter), or why it is none of ours
            (the quarantine is told).
        message: What was expected and found, without any value.
    """

    record: ConsumerRecord
    reason: RejectReason | QuarantineReason
    message: str

    @property
    def is_ours(self) -> bool:
        """Whether it is a row of ours, which nobody may lose."""
        return isinstance(self.reason, RejectReason)

    @property
    def waits_since_ms(self) -> int:
        """When the log took it."""
        return int(self.record.timestamp)


def decode_row(record: ConsumerRecord, sample_ratio: float) -> AcceptedRow | BadRow:
    """Decode one record; what nobody should have written there is a `BadRow`, not an error."""
    try:
        accepted = read_message(AcceptedTransaction, record.value, record.timestamp)
    except NotOurs as exc:
        return BadRow(record, exc.reason, exc.message)
    transaction = accepted.transaction
    if record.key != transaction.card_token.encode():
        return BadRow(record, QuarantineReason.KEY, "expected the card token as key")
    if accepted.HasField("decision") and writer_of(record.headers) == _INGEST:
        return BadRow(record, RejectReason.WRITER, "expected no decision in a row of ingest")
    found = find_card_data(transaction)
    if found:
        # Of a release whose doors knew fewer forms. Scoring would refuse its whole batch, for ever.
        is_sad = found is CardData.SAD
        reason = RejectReason.SAD_PRESENT if is_sad else RejectReason.PAN_PRESENT
        return BadRow(record, reason, "an id or name holds card data")
    if not _can_be_of_ingest(accepted, record.timestamp):
        accepted.raw_append_time_ms = 0
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


def _can_be_of_ingest(accepted: AcceptedTransaction, appended_ms: int) -> bool:
    """Return whether the raw topic can have taken a row when it says so, 0 for never.

    A time that cannot be would close the shard of its row, and a rebuild would close it again.
    Ingest holds the time of the event against the same clock, and the raw topic keeps nothing long.
    """
    stamp_ms, event_time_ms = accepted.raw_append_time_ms, accepted.transaction.event_time_ms
    is_near_event = -LATENESS_LONGEST_MS <= event_time_ms - stamp_ms <= FUTURE_LONGEST_MS
    return is_near_event and stamp_ms >= appended_ms - _RAW_LONGEST_MS


def placed_row(row: AcceptedRow | BadRow, partitions: int) -> AcceptedRow | BadRow:
    """Return a row as it is, or what is wrong with it if its key belongs into another partition.

    Another shard holds its card: its copy there would be decided a second time.
    """
    if isinstance(row, BadRow):
        return row
    found, expected = row.record.partition, partition_of(row.record.key, partitions)
    if found == expected:
        return row
    message = f"expected partition {expected} of {partitions} for its key, found {found}"
    return BadRow(row.record, RejectReason.PARTITION_MISMATCH, message)


class RowClass(StrEnum):
    """What becomes of an accepted row."""

    COUNTED = "scored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


def at_odds(rows: Sequence[AcceptedRow], records: Sequence[bytes | None]) -> list[Identity]:
    """Return the identities whose stored decision record is about another body than their row.

    Args:
        rows: Rows of one shard.
        records: Stored decision record of each row's identity, beginning with its digest.
    """
    return [
        row.identity
        for row, record in zip(rows, records, strict=True)
        if record is not None and record[:DIGEST_BYTES] != row.digest
    ]


def judge_rows(
    rows: Sequence[AcceptedRow],
    claims: Sequence[bytes | None],
    records: Sequence[bytes | None],
) -> list[RowClass]:
    """Tell which rows count, in order, the batch's own rows included.

    Args:
        rows: Rows of one shard.
        claims: Stored claim of each row's identity: digest and offset.
        records: Stored decision record of each row's identity, beginning with its digest.
    """
    claimed: dict[Identity, bytes] = {}
    row_classes = []
    for row, claim, record in zip(rows, claims, records, strict=True):
        known = claimed.get(row.identity, claim[:DIGEST_BYTES] if claim else None)
        decided = record[:DIGEST_BYTES] if record else None
        row_class = _judge(row.digest, known, decided)
        if row_class is RowClass.COUNTED:
            claimed[row.identity] = row.digest
        row_classes.append(row_class)
    return row_classes


def _judge(digest: bytes, claimed: bytes | None, decided: bytes | None) -> RowClass:
    """Judge one row: the decision's digest wins over the claim's, and the first claim counts."""
    if decided is not None and decided != digest:
        return RowClass.CONFLICT
    if claimed is None:
        return RowClass.COUNTED
    if claimed == digest:
        return RowClass.DUPLICATE
    return RowClass.COUNTED if decided == digest else RowClass.CONFLICT
