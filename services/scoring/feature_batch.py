"""Read what the features service sent: rows of bytes become two arrays and their subjects. Pure.

Axes: `n` rows, `F` features as sent, `T` sequence length, `C` sequence channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from fraudstream.engines.protocol import FloatArray
from fraudstream.errors import FeatureSpecMismatch, InvalidTransaction
from fraudstream.features.catalogue import SEQUENCE_CHANNELS, SEQUENCE_LENGTH
from fraudstream.identity import identity_of
from fraudstream.telemetry import TraceContext
from fraudstream.v1.scoring_pb2 import FeatureBatchRequest, FeatureRow
from services.scoring.written import Subject

MAX_ROWS: Final = 1024
FLOAT_BYTES: Final = 4
SEQUENCE_BYTES: Final = SEQUENCE_LENGTH * len(SEQUENCE_CHANNELS) * FLOAT_BYTES


@dataclass(frozen=True, slots=True)
class FeatureArrays:
    """The numbers of a batch, not yet narrowed to a model's features.

    Attributes:
        vectors: float32 [n, F].
        sequences: float32 [n, T, C].
    """

    vectors: FloatArray
    sequences: FloatArray

    @classmethod
    def joined(cls, vectors: Sequence[bytes], sequences: Sequence[bytes]) -> Self:
        """Return the numbers of at least one row, whose bytes have the lengths that they must."""
        shape = (len(sequences), SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS))
        return cls(
            np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1),
            np.frombuffer(b"".join(sequences), "<f4").reshape(shape),
        )

    def select(self, places: list[int]) -> FeatureArrays:
        """Return some of the rows."""
        if len(places) == len(self.vectors):
            return self
        return FeatureArrays(self.vectors[places], self.sequences[places])


def check_size(rows: int) -> None:
    """Refuse a batch without rows or with more than 1,024.

    Raises:
        InvalidTransaction: `BATCH_SIZE`.
    """
    if not 1 <= rows <= MAX_ROWS:
        raise InvalidTransaction("BATCH_SIZE", f"1 to {MAX_ROWS} rows are expected, found {rows}")


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
    for place, value in enumerate(values):
        if len(value) != expected_bytes:
            msg = f"rows[{place}].{field} has {len(value)} bytes, {expected_bytes} are expected"
            raise FeatureSpecMismatch(msg)


def _refuse_infinity(vectors: FloatArray, field: str) -> None:
    is_infinite = np.isinf(vectors)
    if is_infinite.any():
        row, column = np.argwhere(is_infinite)[0].tolist()
        msg = f"rows[{row}].{field}[{column}] is infinite; a missing feature is NaN"
        raise InvalidTransaction("FEATURE_NOT_FINITE", msg)


def feature_set_hash(feature_hashes: tuple[int, ...]) -> str:
    """Return the hash of a vector's feature list, as the catalogue computes its own.

    >>> from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_SET_HASH
    >>> feature_set_hash(FEATURE_HASHES) == FEATURE_SET_HASH
    True
    """
    listing = b"".join(number.to_bytes(8, "little") for number in feature_hashes)
    return hashlib.sha256(listing).hexdigest()[:16]


def read_subject(row: FeatureRow, sample_ratio: float) -> Subject:
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
    )


def read_batch(request: FeatureBatchRequest) -> FeatureArrays:
    """Return the numbers of a whole request, after its size is checked.

    Raises:
        FeatureSpecMismatch: A vector or sequence has another length.
        InvalidTransaction: `BATCH_SIZE` or `FEATURE_NOT_FINITE`.
    """
    check_size(len(request.rows))
    return read_arrays(request.rows, len(request.feature_hashes))
