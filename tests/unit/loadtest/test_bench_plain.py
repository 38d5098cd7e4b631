"""The plain composition computes what our services compute, one row at a time."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from fraudstream.features.catalogue import SHARED_ENTITIES, Entity
from fraudstream.features.state import SHARED_STATE
from fraudstream.features.stored_values import KIND_OF_ENTITY, entity_keys, unpack_values
from fraudstream.store.entity_reader import SharedView
from fraudstream.store.shard import Role, ShardRef
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from loadtest.plain.rows import Shared, Stored, compute_rows, count_rows, entity_of, entity_rows_of
from services.features.rows.accepted_rows import AcceptedRow, decode_row
from services.features.rows.card_batch import advance_batch
from tests.worlds.accepted_rows import accepted_record, token_of
from training.simulator.simulate import SimulationSettings, live_traffic


@pytest.fixture
def accepted() -> list[AcceptedTransaction]:
    """Rows of a few cards, so that each has several."""
    traffic = islice(live_traffic(SimulationSettings(seed=3, cards=8)), 60)
    rows = []
    for simulated in traffic:
        transaction = simulated.transaction
        transaction.card_token = token_of(transaction.customer_id, transaction.bank_id)
        transaction.amount_reference_minor = transaction.amount_minor
        rows.append(AcceptedTransaction(transaction=transaction))
    return rows


def _decoded(accepted: AcceptedTransaction) -> AcceptedRow:
    record = accepted_record(accepted.transaction, 0)
    row = decode_row(replace(record, timestamp=accepted.transaction.event_time_ms), 0.0)
    assert isinstance(row, AcceptedRow)
    return row


def _counts(accepted: list[AcceptedTransaction]) -> dict[Shared, bytes]:
    """Count rows at their entities as the entity agent does."""
    counts: dict[Shared, bytes] = {}
    for row in accepted:
        for moved in entity_rows_of(row, entity_keys(row.transaction), is_unusual=True):
            entity = entity_of(moved)
            counts |= count_rows([moved], {entity: counts.get(entity)})
    return counts


def _view_of(counts: dict[Shared, bytes]) -> SharedView:
    """Return the counts as our services read them."""
    places: list[dict[str, int]] = [{} for _ in SHARED_ENTITIES]
    for number, (entity, key) in enumerate(counts):
        places[SHARED_ENTITIES.index(entity)][key] = number
    states = unpack_values(list(counts.values()), SHARED_STATE)
    return SharedView(states, [0] * len(states), [0] * len(states), places)


def test_rows_one_by_one_give_the_features_of_our_batch(
    accepted: list[AcceptedTransaction],
) -> None:
    """Same features from the same shared entities; states travel as bytes and lose nothing."""
    counts = _counts(accepted)
    cards: dict[str, bytes | None] = {row.transaction.card_token: None for row in accepted}
    # What an entity keeps of labels only, or of nothing, our services read as an empty state.
    for row in accepted:
        for entity, key in zip(SHARED_ENTITIES, entity_keys(row.transaction), strict=True):
            if key:
                counts.setdefault((entity, key), bytes(SHARED_STATE.itemsize))
    rows = [_decoded(row) for row in accepted]
    batch = advance_batch(ShardRef(Role.CARD, 0, "61:1"), 0, rows, cards, _view_of(counts))

    for place, row in enumerate(accepted):
        keys = entity_keys(row.transaction)
        shared = {e: counts.get(e) for e in zip(SHARED_ENTITIES, keys, strict=True)}
        card = row.transaction.card_token
        (computed,) = compute_rows([row], [keys], Stored({card: cards[card]}, shared))
        cards[card] = computed.state

        np.testing.assert_array_equal(computed.vector, batch.vectors[place])
        np.testing.assert_array_equal(computed.sequence, batch.sequences[place])
        assert computed.is_unusual == bool(batch.unusual[place])
    assert [cards[card] for card in batch.cards] == [
        state.tobytes() for state in batch.values["state"]
    ]


def test_purchase_moves_every_entity_that_it_has_but_the_card(
    accepted: list[AcceptedTransaction],
) -> None:
    """The rows are those that our services send: the card's shared value holds labels only."""
    remote = next(row for row in accepted if row.transaction.device_id)

    rows = list(entity_rows_of(remote, entity_keys(remote.transaction), is_unusual=True))

    expected = [KIND_OF_ENTITY[entity] for entity in SHARED_ENTITIES if entity is not Entity.CARD]
    assert [row.entity_kind for row in rows] == expected
    assert all(row.is_unusual for row in rows)


def test_entity_counts_a_purchase_once(accepted: list[AcceptedTransaction]) -> None:
    """The entity agent's kernel moves the counts on by one."""
    row = next(entity_rows_of(accepted[0], entity_keys(accepted[0].transaction), is_unusual=False))

    entity = entity_of(row)
    once = unpack_values([count_rows([row], {entity: None})[entity]], SHARED_STATE)
    (counted,) = count_rows([row], {entity: once.tobytes()}).values()
    twice = unpack_values([counted], SHARED_STATE)

    assert once["minute_count"].sum() == 1
    assert twice["hour_count"].sum() == 2


def test_row_of_a_card_nobody_knows_has_features(accepted: list[AcceptedTransaction]) -> None:
    """An empty store is where every card begins."""
    keys, card = entity_keys(accepted[0].transaction), accepted[0].transaction.card_token
    nothing = Stored({card: None}, dict.fromkeys(zip(SHARED_ENTITIES, keys, strict=True)))

    (computed,) = compute_rows([accepted[0]], [keys], nothing)

    assert computed.previous_ms == 0
    assert not np.isinf(computed.vector).any()
