"""Read what the features service sent: rows of bytes become two arrays and their subjects. Pure.

Axes: `n` rows, `F` features as sent, `T` sequence length, `C` sequence channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fraudstream.bounds.decision import fault_of_carried, fault_of_freshness, is_sequence
from fraudstream.bounds.transaction import fault_of_transaction
from fraudstream.engines.protocol import FloatArray
from fraudstream.errors import FeatureSpecMismatch, InvalidTransaction
from fraudstream.reject_reasons import RejectReason
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.transaction.identity import digest_of, identity_of
from fraudstream.transaction.validate import find_card_data
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, FeatureRow
from services.scoring.decision.feature_arrays import FLOAT_BYTES, SEQUENCE_BYTES, FeatureArrays
from services.scoring.decision.message import Subject
from services.scoring.rpc.messages import check_size


def read_arrays(rows: Sequence[FeatureRow], features: int) -> FeatureArrays:
    """Return the numbers of the rows.

    Args:
        rows: At least one.
        features: How many features each vector must have.

    Raises:
        FeatureSpecMismatch: A vector or sequence has another length.
        InvalidTransaction: `FEATURE_NOT_FINITE`; a missing feature is NaN, never infinite.
    """
    vectors, sequences = [row.vector for row in rows], [row.sequence for row in rows]
    _check_lengths(vectors, features * FLOAT_BYTES, "vector")
    _check_lengths(sequences, SEQUENCE_BYTES, "sequence")
    arrays = FeatureArrays.joined(vectors, sequences)
    _refuse_infinity(arrays.vectors, "vector")
    return arrays


def _check_lengths(values: Sequence[bytes], expected_bytes: int, field: str) -> None:
    for index, value in enumerate(values):
        if len(value) != expected_bytes:
            msg = f"rows[{index}].{field} has {len(value)} bytes, {expected_bytes} are expected"
            raise FeatureSpecMismatch(msg)


def _refuse_infinity(vectors: FloatArray, field: str) -> None:
    is_infinite = np.isinf(vectors)
    if is_infinite.any():
        row, column = np.argwhere(is_infinite)[0].tolist()
        msg = f"rows[{row}].{field}[{column}] is infinite; a missing feature is NaN"
        raise InvalidTransaction("FEATURE_NOT_FINITE", msg)


def read_subject(row: FeatureRow, sample_ratio: float, started_us: int) -> Subject:
    """Return what one row is about; its span is a child of the features span."""
    transaction = row.transaction
    parent = TraceContext.parse(row.traceparent)
    return Subject(
        identity=identity_of(
            transaction.bank_id, transaction.card_token, transaction.transaction_id
        ),
        digest=row.digest,
        transaction=transaction,
        vector=row.vector,
        sequence=row.sequence,
        freshness=row.freshness,
        timings=row.timings,
        span=parent.child() if parent else TraceContext.start(sample_ratio),
        parent=parent,
        offset=row.offset,
        started_us=started_us,
        asked_by=f"feed:{row.feed}" if row.feed else "",
    )


def _fault_of_row(row: FeatureRow, sequence_hash: str, now_ms: int) -> str:
    """Return the first field of a row that features never sends, empty for none."""
    fault = fault_of_transaction(row.transaction, now_ms)
    if fault:
        return f"transaction.{fault}"
    if row.digest != digest_of(row.transaction):
        return "digest"
    if row.offset < 0:
        return "offset"
    if not is_sequence(row.sequence, sequence_hash):
        return "sequence"
    if row.HasField("carried_decision"):
        carried = row.carried_decision
        fault = fault_of_carried(carried, now_ms)
        if not fault and carried.transaction != row.transaction:
            fault = "transaction"
        if fault:
            return f"carried_decision.{fault}"
    return fault_of_freshness(row.freshness)


def _check_rows(request: FeatureBatchRequest, now_ms: int) -> None:
    for index, row in enumerate(request.rows):
        if row.transaction.pan or find_card_data(row.transaction):
            msg = f"rows[{index}].transaction: expected card_token alone, found a card number"
            raise InvalidTransaction(RejectReason.PAN_PRESENT, msg)
        fault = _fault_of_row(row, request.sequence_hash, now_ms)
        if fault:
            msg = f"rows[{index}].{fault} is none that the features service sends"
            raise InvalidTransaction("ROW_INVALID", msg)


def read_batch(request: FeatureBatchRequest, now_ms: int) -> FeatureArrays:
    """Return the numbers of a whole request, after its size and each field are checked.

    Args:
        request: From the features service.
        now_ms: Epoch milliseconds; no event is further ahead of it than a door allows.

    Raises:
        FeatureSpecMismatch: A vector or sequence has another length.
        InvalidTransaction: `BATCH_SIZE`, `ROW_INVALID` or `FEATURE_NOT_FINITE`; `PAN_PRESENT`.
    """
    check_size(len(request.rows))
    arrays = read_arrays(request.rows, len(request.feature_hashes))
    _check_rows(request, now_ms)
    return arrays
