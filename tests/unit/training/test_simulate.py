"""The simulator: seeded, realistic in shape, and not separable by eye."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from fraudstream.features.catalogue import SHARED_ENTITIES, Entity
from fraudstream.features.state import ROW, rows_of
from fraudstream.features.stored_values import entity_keys
from fraudstream.v1 import transaction_pb2 as pb
from training.metrics import average_precision
from training.simulator.devices import device_numbers
from training.simulator.fraudsters import FraudKind
from training.simulator.histories import simulated_history
from training.simulator.messages import luhn_digit, pan_of
from training.simulator.simulate import Simulated, SimulationSettings, live_traffic, simulate

SMALL = SimulationSettings(seed=5, cards=400, days=30)


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    """A small history."""
    return simulate(SMALL)


def test_same_settings_give_the_same_traffic(simulated: Simulated) -> None:
    """Everything is drawn from the seed."""
    assert simulate(SMALL).rows.tobytes() == simulated.rows.tobytes()


def test_another_seed_gives_other_traffic(simulated: Simulated) -> None:
    """The demo's seed is not that of training, so its traffic must differ."""
    other = simulate(SimulationSettings(seed=6, cards=400, days=30))

    assert other.rows[:100].tobytes() != simulated.rows[:100].tobytes()


def test_rows_come_in_event_time_order_inside_the_span(simulated: Simulated) -> None:
    """A history can be replayed as it is."""
    times = simulated.rows["event_time_ms"]

    assert (np.diff(times) >= 0).all()
    assert times[0] >= SMALL.start_ms
    assert times[-1] < SMALL.start_ms + SMALL.days * 86_400_000


def test_every_scheme_appears_and_fraud_is_rare(simulated: Simulated) -> None:
    """Fraud is about 0.5 to 1 % of the rows, by six kinds of fraudster."""
    kinds = set(simulated.rows["fraud_kind"].tolist())

    assert kinds == set(FraudKind)
    assert 0.004 < simulated.is_fraud.mean() < 0.015


def test_amount_alone_does_not_separate_fraud(simulated: Simulated) -> None:
    """Ranking by amount finds next to nothing (AP < 0.2)."""
    amount = simulated.rows["amount_reference_minor"].astype(np.float64)

    assert average_precision(amount, simulated.is_fraud) < 0.2


def test_every_fraud_is_labelled_later_and_nothing_else_is(simulated: Simulated) -> None:
    """A label arrives after its transaction; genuine rows need none."""
    fraud = simulated.is_fraud
    arrival = simulated.label_arrival_ms

    assert (arrival[fraud] > simulated.rows["event_time_ms"][fraud]).all()
    assert (arrival[~fraud] == -1).all()


def test_all_kinds_and_channels_occur(simulated: Simulated) -> None:
    """Purchases, refunds, reversals, verifications; shops, online, cash, subscriptions."""
    assert set(simulated.rows["kind"].tolist()) == {1, 2, 3, 4}
    assert {1, 2, 3, 5} <= set(simulated.rows["channel"].tolist())


def test_refund_repays_an_earlier_purchase_of_its_card(simulated: Simulated) -> None:
    """A refund has the amount and the terminal of a purchase before it."""
    rows = simulated.rows
    refund = rows[rows["kind"] == pb.TRANSACTION_KIND_REFUND][-1]
    earlier = rows[(rows["card"] == refund["card"]) & (rows["kind"] == 1)]
    earlier = earlier[earlier["event_time_ms"] < refund["event_time_ms"]]
    same = earlier["amount_reference_minor"] == refund["amount_reference_minor"]

    assert refund["terminal"] in earlier["terminal"][same]


def test_transactions_are_whole_messages_with_test_card_numbers(simulated: Simulated) -> None:
    """Every message has its ids, a positive amount unless it verifies, and a valid Luhn digit."""
    for row in range(0, len(simulated), 97):
        message = simulated.transaction(row)
        assert message.pan[-1] == luhn_digit(message.pan[:-1])
        assert message.bank_id
        assert message.terminal_id
        assert len(message.mcc) == 4
        assert message.amount_minor > 0 or message.kind == pb.TRANSACTION_KIND_VERIFICATION


def test_two_cards_never_share_a_number() -> None:
    """A card number stands for one card."""
    assert len({pan_of(card) for card in range(5_000)}) == 5_000


def test_transaction_ids_are_unique(simulated: Simulated) -> None:
    """A bank never uses an id twice for one card."""
    ids = {simulated.transaction(row).transaction_id for row in range(500)}

    assert len(ids) == 500


def test_history_has_dense_numbers_and_a_name_for_every_entity(simulated: Simulated) -> None:
    """The kernel's driver can read it: one number and one key an entity of a bank."""
    labelled = simulated_history(simulated)

    assert labelled.history.card.max() < SMALL.cards
    assert set(labelled.entity_keys) == set(SHARED_ENTITIES) - {Entity.CARD}
    for entity, keys in labelled.entity_keys.items():
        numbers = labelled.history.entities[entity]
        assert sorted(set(numbers[numbers >= 0].tolist())) == list(range(len(keys)))
        assert len(set(keys)) == len(keys)


def test_history_has_the_rows_that_its_messages_make(simulated: Simulated) -> None:
    """What a model learns from is what the stream would read from the same transactions."""
    labelled = simulated_history(simulated)
    picked = range(0, len(simulated), 53)

    messages = [simulated.transaction(row) for row in picked]
    for message, row in zip(messages, picked, strict=True):
        message.amount_reference_minor = int(simulated.rows["amount_reference_minor"][row])

    rows = rows_of(messages)
    for name in ROW.names or ():
        found = labelled.history.rows[name][list(picked)]
        np.testing.assert_array_equal(found, rows[name], err_msg=name)
    for place, entity in enumerate(SHARED_ENTITIES):
        if entity is not Entity.CARD:
            numbers = labelled.history.entities[entity][list(picked)].tolist()
            names = ["" if n < 0 else labelled.entity_keys[entity][n] for n in numbers]
            assert names == [entity_keys(message)[place] for message in messages]


def test_new_device_tells_no_fraud_by_itself(simulated: Simulated) -> None:
    """Cardholders change theirs too, and thieves may use the victim's own."""
    devices = device_numbers(simulated.rows)
    cards = simulated.rows["card"].astype(np.int64)
    remote = np.flatnonzero(devices >= 0)
    pairs = np.stack([cards[remote], devices[remote]], axis=1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    is_new = np.zeros(len(remote), np.bool_)
    is_new[first] = True
    is_fraud = simulated.is_fraud[remote]

    assert is_fraud[is_new].mean() < 0.3
    assert (~is_new)[is_fraud].mean() > 0.1


def test_live_traffic_runs_in_event_time_order_at_its_rate() -> None:
    """Live traffic keeps to the clock that the caller starts it with."""
    settings = SimulationSettings(seed=9, cards=5_000, rate_per_s=100.0, start_ms=1_800_000_000_000)
    live = list(islice(live_traffic(settings), 3_000))
    times = [each.transaction.event_time_ms for each in live]

    assert times == sorted(times)
    assert 25_000 < times[-1] - settings.start_ms < 31_000


def test_live_traffic_holds_several_schemes_within_minutes() -> None:
    """A short demo sees several kinds of fraudster; frauds are marked only outside the message."""
    settings = SimulationSettings(seed=9, cards=5_000, fraud_share=0.01)
    kinds = Counter(each.fraud_kind for each in islice(live_traffic(settings), 10_000))

    assert len(kinds) >= 5
    assert 0.002 < 1 - kinds[FraudKind.GENUINE] / 10_000 < 0.03


def test_live_cards_are_those_of_the_history(simulated: Simulated) -> None:
    """A history of the same population may be loaded before live traffic: cards keep their bank."""
    bank_of_pan = {
        message.pan: message.bank_id
        for message in (simulated.transaction(row) for row in range(3_000))
    }
    later = SimulationSettings(seed=5, cards=400, start_ms=SMALL.start_ms + 30 * 86_400_000)
    live = [each.transaction for each in islice(live_traffic(later), 300)]

    shared = [each for each in live if each.pan in bank_of_pan]
    assert len(shared) > 100
    assert all(bank_of_pan[each.pan] == each.bank_id for each in shared)
