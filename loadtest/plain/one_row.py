"""One accepted row: features from stored states, the state after it, and the request to score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.features.catalogue import kernel_plan
from fraudstream.features.codec import unpack_values
from fraudstream.features.kernel import advance_cards, advance_terminals, empty_outputs
from fraudstream.features.state import CARD_STATE, LABEL_STATE, TERMINAL_STATE, rows_of
from fraudstream.identity import digest_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Freshness, StageTimings
from fraudstream.v1.features_pb2 import EntityKind, EntityRow, EntityRowKind
from fraudstream.v1.scoring_pb2 import FeatureRow

_PLAN = kernel_plan()
_FIRST = np.zeros(1, np.int64)
_NONE = np.full(1, -1, np.int64)
_US_PER_MS = 1_000


@dataclass(frozen=True, slots=True)
class Stored:
    """What the online store held of a row's card and terminal; None for nothing."""

    card: bytes | None
    terminal: bytes | None
    labels: bytes | None


@dataclass(frozen=True, slots=True)
class Computed:
    """A row's features, and its card's state after it.

    Attributes:
        vector: float32 [F].
        sequence: float32 [T, C].
        state: `CARD_STATE`, packed.
        previous_ms: Event time of the card's row before, 0 for none.
    """

    vector: npt.NDArray[np.float32]
    sequence: npt.NDArray[np.float32]
    state: bytes
    previous_ms: int


def compute_row(accepted: AcceptedTransaction, stored: Stored) -> Computed:
    """Run the kernel over one row."""
    states = unpack_values([stored.card], CARD_STATE)
    previous_ms = int(states["previous_ms"][0])
    vectors, sequences = empty_outputs(1)
    advance_cards(
        states,
        _FIRST,
        rows_of([accepted.transaction]),
        unpack_values([stored.terminal], TERMINAL_STATE),
        unpack_values([stored.labels], LABEL_STATE),
        _FIRST if accepted.transaction.terminal_id else _NONE,
        _PLAN,
        vectors,
        sequences,
    )
    return Computed(vectors[0], sequences[0], states.tobytes(), previous_ms)


def request_of(
    accepted: AcceptedTransaction, computed: Computed, traceparent: str, span_us: tuple[int, int]
) -> FeatureRow:
    """Return what is asked of the scorer.

    Args:
        accepted: The row.
        computed: Its features.
        traceparent: Of this stage's span.
        span_us: When this stage began and ended, epoch microseconds.
    """
    return FeatureRow(
        transaction=accepted.transaction,
        digest=digest_of(accepted.transaction),
        vector=computed.vector.tobytes(),
        sequence=computed.sequence.tobytes(),
        traceparent=traceparent,
        freshness=Freshness(
            previous_event_time_ms=computed.previous_ms, cold_start=computed.previous_ms == 0
        ),
        timings=StageTimings(
            raw_appended_us=accepted.raw_append_time_ms * _US_PER_MS,
            ingest_started_us=accepted.ingest_started_us,
            ingest_ended_us=accepted.ingest_ended_us,
            features_started_us=span_us[0],
            features_ended_us=span_us[1],
        ),
    )


def entity_row_of(accepted: AcceptedTransaction, entity_key: str) -> EntityRow:
    """Return the row that moves a terminal's counts on."""
    transaction = accepted.transaction
    return EntityRow(
        kind=EntityRowKind.ENTITY_ROW_KIND_TRANSACTION,
        entity_kind=EntityKind.ENTITY_KIND_TERMINAL,
        entity_key=entity_key,
        event_time_ms=transaction.event_time_ms,
        amount_reference_minor=transaction.amount_reference_minor,
        transaction_kind=transaction.kind,
    )


def count_row(row: EntityRow, stored: bytes | None) -> bytes:
    """Return a terminal's packed counts after one row."""
    counts = unpack_values([stored], TERMINAL_STATE)
    advance_terminals(
        counts,
        _FIRST,
        np.array([row.event_time_ms], np.int64),
        np.array([row.amount_reference_minor], np.int64),
        np.array([row.transaction_kind], np.int64),
    )
    return counts.tobytes()
