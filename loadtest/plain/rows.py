"""Accepted rows: features from stored states, the states after them, and requests to scoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.catalogue import SHARED_ENTITIES, Entity
from fraudstream.features.entity_kernel import advance_shared
from fraudstream.features.state import CARD_STATE, SHARED_STATE, rows_of
from fraudstream.features.stored_values import (
    ENTITY_OF_KIND,
    KIND_OF_ENTITY,
    EntityKeys,
    unpack_values,
)
from fraudstream.store.entity_reader import SharedView
from fraudstream.store.entity_rows import pack_entity_rows
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.transaction.identity import digest_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Freshness, StageTimings
from fraudstream.v1.features_pb2 import EntityRow, EntityRowKind
from fraudstream.v1.scoring_pb2 import FeatureRow
from fraudstream.v1.transaction_pb2 import TransactionKind

_US_PER_MS = 1_000

# A shared entity: its kind and its key.
Shared = tuple[Entity, str]
# Key, value and trace of a record that is sent.
Keyed = tuple[bytes, bytes, TraceContext]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the online store holds of rows' cards and shared entities, packed; None for nothing."""

    cards: Mapping[str, bytes | None]
    shared: Mapping[Shared, bytes | None]


@dataclass(frozen=True, slots=True)
class Computed:
    """A row's features, float32 [F] and [T, C], and its card's packed state after it.

    `previous_ms` is the event time of the card's row before, 0 for none.
    """

    vector: npt.NDArray[np.float32]
    sequence: npt.NDArray[np.float32]
    is_unusual: bool
    state: bytes
    previous_ms: int


def shared_of(keys: Sequence[EntityKeys]) -> list[Shared]:
    """Return the shared entities of some rows, each once."""
    pairs = (zip(SHARED_ENTITIES, of_row, strict=True) for of_row in keys)
    return list(dict.fromkeys(pair for row in pairs for pair in row))


def compute_rows(
    rows: Sequence[AcceptedTransaction], keys: Sequence[EntityKeys], stored: Stored
) -> list[Computed]:
    """Run the kernels over rows in order; of a card's rows the last has the state after all."""
    number_of = {card: number for number, card in enumerate(stored.cards)}
    states = unpack_values(list(stored.cards.values()), CARD_STATE)
    state_of = np.array([number_of[row.transaction.card_token] for row in rows], np.int64)
    previous_ms = states["previous_ms"][state_of].tolist()
    packed = rows_of([row.transaction for row in rows])
    vectors, sequences = outputs = empty_outputs(len(rows))
    unusual = advance_cards(states, state_of, packed, outputs, np.arange(len(rows)))
    numbers: list[dict[str, int]] = [{} for _ in SHARED_ENTITIES]
    for number, (entity, key) in enumerate(stored.shared):
        if key:
            numbers[SHARED_ENTITIES.index(entity)][key] = number
    shared = unpack_values(list(stored.shared.values()), SHARED_STATE)
    SharedView(shared, [0] * len(shared), [0] * len(shared), numbers).write_features(
        keys, packed, vectors
    )
    return [
        Computed(vectors[i], sequences[i], bool(unusual[i]), states[of].tobytes(), previous_ms[i])
        for i, of in enumerate(state_of.tolist())
    ]


def request_of(
    accepted: AcceptedTransaction, computed: Computed, traceparent: str, span_us: tuple[int, int]
) -> FeatureRow:
    """Return what is asked of the scorer after a stage that began and ended then, microseconds."""
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


def entity_rows_of(
    accepted: AcceptedTransaction, keys: EntityKeys, is_unusual: bool
) -> Iterator[EntityRow]:
    """Yield the rows that move the counts of a purchase's shared entities on."""
    transaction = accepted.transaction
    if transaction.kind != TransactionKind.TRANSACTION_KIND_PURCHASE:
        return
    for entity, key in zip(SHARED_ENTITIES, keys, strict=True):
        if key and entity is not Entity.CARD:
            yield EntityRow(
                kind=EntityRowKind.ENTITY_ROW_KIND_TRANSACTION,
                entity_kind=KIND_OF_ENTITY[entity],
                entity_key=key,
                event_time_ms=transaction.event_time_ms,
                amount_reference_minor=transaction.amount_reference_minor,
                transaction_kind=transaction.kind,
                is_unusual=is_unusual,
            )


def entity_of(row: EntityRow) -> Shared:
    """Return which shared entity a row is about."""
    return ENTITY_OF_KIND[row.entity_kind], row.entity_key


def count_rows(
    rows: Sequence[EntityRow], stored: Mapping[Shared, bytes | None]
) -> dict[Shared, bytes]:
    """Return packed states of entities after rows of theirs."""
    number_of = {entity: number for number, entity in enumerate(stored)}
    states = unpack_values(list(stored.values()), SHARED_STATE)
    state_of = np.array([number_of[entity_of(row)] for row in rows], np.int64)
    advance_shared(states, state_of, pack_entity_rows(rows, [0] * len(rows), {}))
    return {entity: states[number].tobytes() for entity, number in number_of.items()}
