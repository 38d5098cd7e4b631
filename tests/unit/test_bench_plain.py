"""The plain composition computes what our services compute, one row at a time."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from fraudstream.features.catalogue import kernel_plan
from fraudstream.features.codec import unpack_values
from fraudstream.features.kernel import advance_cards, empty_outputs
from fraudstream.features.state import CARD_STATE, LABEL_STATE, TERMINAL_STATE, rows_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from loadtest.plain.one_row import Stored, compute_row, count_row, entity_row_of
from training.simulate import SimulationSettings, live_traffic


@pytest.fixture
def accepted() -> list[AcceptedTransaction]:
    """Rows of a few cards, so that each has several."""
    traffic = islice(live_traffic(SimulationSettings(seed=3, cards=8)), 60)
    return [AcceptedTransaction(transaction=simulated.transaction) for simulated in traffic]


def test_rows_one_by_one_give_the_features_of_a_batch(accepted: list[AcceptedTransaction]) -> None:
    """The state that travels through the store as bytes loses nothing."""
    cards = [row.transaction.customer_id for row in accepted]
    known = list(dict.fromkeys(cards))
    vectors, sequences = empty_outputs(len(accepted))
    states = unpack_values([None] * len(known), CARD_STATE)
    advance_cards(
        states,
        np.array([known.index(card) for card in cards], np.int64),
        rows_of([row.transaction for row in accepted]),
        unpack_values([None], TERMINAL_STATE),
        unpack_values([None], LABEL_STATE),
        np.zeros(len(accepted), np.int64),
        kernel_plan(),
        vectors,
        sequences,
    )

    stored: dict[str, bytes] = {}
    for place, (card, row) in enumerate(zip(cards, accepted, strict=True)):
        computed = compute_row(row, Stored(stored.get(card), None, None))
        stored[card] = computed.state

        np.testing.assert_array_equal(computed.vector, vectors[place])
        np.testing.assert_array_equal(computed.sequence, sequences[place])
    assert b"".join(stored[card] for card in known) == states.tobytes()


def test_terminal_counts_a_purchase_once(accepted: list[AcceptedTransaction]) -> None:
    """The entity agent's kernel moves the counts on by one."""
    row = entity_row_of(accepted[0], "bank/terminal")

    once = unpack_values([count_row(row, None)], TERMINAL_STATE)
    twice = unpack_values([count_row(row, once.tobytes())], TERMINAL_STATE)

    assert once["minute_count"].sum() == 1
    assert twice["hour_count"].sum() == 2
