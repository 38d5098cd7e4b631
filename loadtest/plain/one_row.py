"""Accepted rows: features from stored states, the states after them, and requests to scoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.entity_log import pack_entity_rows
from fraudstream.features.catalogue import SHARED_ENTITIES, Entity
from fraudstream.features.codec import KIND_OF_ENTITY, EntityKeys, unpack_values
from fraudstream.features.kernel import advance_cards, empty_outputs
from fraudstream.features.shared_kernel import advance_shared
from fraudstream.features.state import CARD_STATE, SHARED_STATE, rows_of
from fraudstream.identity import digest_of
from fraudstream.shared_entities import SharedView
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Freshness, StageTimings
from fraudstream.v1.features_pb2 import EntityRow, EntityRowKind
from fraudstream.v1.scoring_pb2 import FeatureRow
from fraudstream.v1.transaction_pb2 import TransactionKind

_US_PER_MS = 1_000


@dataclass(frozen=True, slots=True)
class Stored:
    """What the online store held of a row's card and shared entities; None for nothing.

    Attributes:
        card: `CARD_STATE`, packed.
        shared: `SHARED_STATE` of each kind in the order of `SHARED_ENTITIES`, packed.
    """

    card: bytes | None
    shared: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Computed:
    """A row's features, and its card's state after it.

    Attributes:
        vector: float32 [F].
        sequence: float32 [T, C].
        is_unusual: Whether it is an unusual purchase of its card.
        state: `CARD_STATE`, packed.
        previous_ms: Event time of the card's row before, 0 for none.
    """

    vector: npt.NDArray[np.float32]
    sequence: npt.NDArray[np.float32]
    is_unusual: bool
    state: bytes
    previous_ms: int


def compute_row(accepted: AcceptedTransaction, keys: EntityKeys, stored: Stored) -> Computed:
    """Run the kernels over one row.

    Args:
        accepted: The row.
        keys: Keys of its shared entities.
        stored: What is known of them.
    """
    shared = {
        (entity, key): value
        for entity, key, value in zip(SHARED_ENTITIES, keys, stored.shared, strict=True)
    }
    card = accepted.transaction.card_token
    (computed,) = compute_rows([accepted], [keys], {card: stored.card}, shared)
    return computed


def compute_rows(
    rows: Sequence[AcceptedTransaction],
    keys: Sequence[EntityKeys],
    cards: Mapping[str, bytes | None],
    shared: Mapping[tuple[Entity, str], bytes | None],
) -> list[Computed]:
    """Run the kernels over rows in order; of a card's rows the last has the state after all.

    Args:
        rows: The rows.
        keys: Keys of each row's shared entities.
        cards: What is stored of their cards, by token.
        shared: What is stored of their shared entities.
    """
    place_of = {card: place for place, card in enumerate(cards)}
    states = unpack_values(list(cards.values()), CARD_STATE)
    state_of = np.array([place_of[row.transaction.card_token] for row in rows], np.int64)
    previous_ms = states["previous_ms"][state_of].tolist()
    packed = rows_of([row.transaction for row in rows])
    vectors, sequences = outputs = empty_outputs(len(rows))
    unusual = advance_cards(states, state_of, packed, outputs, np.arange(len(rows)))
    _view_of(shared).write_features(keys, packed, vectors)
    return [
        Computed(
            vectors[place],
            sequences[place],
            bool(unusual[place]),
            states[state].tobytes(),
            previous_ms[place],
        )
        for place, state in enumerate(state_of.tolist())
    ]


def _view_of(shared: Mapping[tuple[Entity, str], bytes | None]) -> SharedView:
    nowhere = [0] * len(shared)
    places: list[dict[str, int]] = [{} for _ in SHARED_ENTITIES]
    for place, (entity, key) in enumerate(shared):
        if key:
            places[SHARED_ENTITIES.index(entity)][key] = place
    return SharedView(unpack_values(list(shared.values()), SHARED_STATE), nowhere, nowhere, places)


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


def count_row(row: EntityRow, stored: bytes | None) -> bytes:
    """Return an entity's packed state after one row."""
    (state,) = count_rows([row], {row.entity_key: stored}).values()
    return state


def count_rows(rows: Sequence[EntityRow], stored: Mapping[str, bytes | None]) -> dict[str, bytes]:
    """Return packed states of entities of one kind after rows of theirs, by key."""
    place_of = {key: place for place, key in enumerate(stored)}
    states = unpack_values(list(stored.values()), SHARED_STATE)
    state_of = np.array([place_of[row.entity_key] for row in rows], np.int64)
    advance_shared(states, state_of, pack_entity_rows(rows, [0] * len(rows), {}))
    return {key: states[place].tobytes() for key, place in place_of.items()}
