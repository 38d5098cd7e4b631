"""The extremes of entities: one row, very many, none, a very long key, and damaged bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.catalogue import FEATURE_NAMES, SHARED_ENTITIES, Entity
from fraudstream.features.state import CARD_STATE, MINUTE_MS, ROW, SHARED_STATE, is_sound, rows_of
from fraudstream.features.stored_values import (
    CARD_VALUE,
    empty_unsound,
    entity_key,
    entity_keys,
    log_key,
    unpack_values,
)
from fraudstream.store.entity_reader import SharedView
from fraudstream.store.shard import Role, ShardKeys, ShardRef, pack_claim
from fraudstream.telemetry.metrics import CORRUPT_STATES
from fraudstream.topics import partition_of
from fraudstream.transaction.identity import identity_of
from services.features.rows.accepted_rows import AcceptedRow, decode_row
from services.features.rows.card_batch import advance_batch
from tests.worlds.accepted_rows import EVENT_MS, accepted_record, token_of, transaction_of

_SHARD = ShardRef(Role.CARD, 0, "61:1")
_FLOAT_FIELDS = [n for n in CARD_STATE.names or () if CARD_STATE[n].base.kind == "f"]
_NO_ENTITIES = SharedView(np.zeros(0, SHARED_STATE), (), (), [{} for _ in SHARED_ENTITIES])


def _advanced(rows: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.void], dict[str, float]]:
    """Return a card's state after rows, and the last one's features."""
    states, outputs = np.zeros(1, CARD_STATE), empty_outputs(len(rows))
    zeros = np.zeros(len(rows), np.int64)
    advance_cards(states, zeros, rows, outputs, np.arange(len(rows)))
    return states, dict(zip(FEATURE_NAMES, outputs[0][-1].tolist(), strict=True))


def _row(transaction_id: str) -> AcceptedRow:
    row = decode_row(accepted_record(transaction_of(transaction_id), 0), 0.0)
    assert isinstance(row, AcceptedRow)
    return row


def test_card_with_a_hundred_thousand_rows_has_the_state_of_any_card() -> None:
    """A card of a company pays every minute for ten weeks: its windows hold what they say."""
    count = 100_000
    rows = np.zeros(count, ROW)
    rows["event_ms"] = EVENT_MS + np.arange(count) * MINUTE_MS
    rows["amount"], rows["kind"] = 10**13, 1

    states, seen = _advanced(rows)

    full_days = 29 * 1_440 + int(rows["event_ms"][-1]) // MINUTE_MS % 1_440 + 1
    assert states.nbytes == CARD_STATE.itemsize
    assert states["rows"].tolist() == [count]
    assert seen["card_count_30d"] == full_days
    assert seen["card_sum_30d"] == np.float32(full_days * 10**13)
    assert seen["card_amount_to_usual"] == 1.0


def test_first_row_of_a_card_has_its_own_features_and_no_past() -> None:
    """One row is enough to compute every feature; what needs a past is missing."""
    transaction = transaction_of("t-1", 700)

    states, seen = _advanced(rows_of([transaction]))

    assert seen["amount"] == seen["card_sum_1h"] == seen["card_mean_30d"] == 700.0
    assert seen["card_is_new_terminal"] == 1.0
    assert all(
        np.isnan(seen[name])
        for name in (
            "card_seconds_since_previous",
            "card_amount_to_usual",
            "card_std_30d",
            "card_night_share",
            "card_km_from_previous",
            "card_is_new_device",
        )
    )
    assert is_sound(states).all()


@pytest.mark.parametrize("name", _FLOAT_FIELDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_damaged_number_is_found_wherever_it_stands(name: str, value: float) -> None:
    """In the first place of each field or in its last; what is finite is sound, however large."""
    states = np.zeros(3, CARD_STATE)
    numbers = states[name].reshape(3, -1)
    numbers[0] = -3e38
    numbers[1, -1] = numbers[2, 0] = value
    states[name] = numbers.reshape(states[name].shape)

    assert is_sound(states).tolist() == [True, False, False]


def test_no_states_are_all_sound() -> None:
    """A batch whose rows were all counted before reads none."""
    assert is_sound(np.zeros(0, CARD_STATE)).tolist() == []


def test_entity_without_a_key_has_no_state_and_missing_features() -> None:
    """A row without a device reads none, and leaves none behind."""
    transaction = transaction_of("t-1", terminal_id="")

    keys = dict(zip(SHARED_ENTITIES, entity_keys(transaction), strict=True))
    batch = advance_batch(_SHARD, 0, [_row("t-1")], {token_of("card-1"): None}, _NO_ENTITIES)

    seen = dict(zip(FEATURE_NAMES, batch.vectors[0].tolist(), strict=True))
    assert keys[Entity.TERMINAL] == keys[Entity.DEVICE] == keys[Entity.IP] == ""
    assert keys[Entity.MERCHANT] == "bank/merchant-1"
    assert all(
        np.isnan(value)
        for name, value in seen.items()
        if name.split("_")[0] in {"terminal", "merchant", "device", "ip", "customer"}
    )


def test_key_of_a_kilobyte_is_an_entity_like_any_other() -> None:
    """Neither the shard, the key of the log nor the name in the store cuts it off."""
    long, longer = entity_key("bank", "x" * 1_024), entity_key("bank", "x" * 1_025)

    names = ShardKeys("fraud", ShardRef(Role.ENTITY, 0, ""))

    assert log_key(Entity.TERMINAL, long) != log_key(Entity.TERMINAL, longer)
    assert 0 <= partition_of(log_key(Entity.TERMINAL, long), 6) < 6
    assert names.state("terminal", long) != names.state("terminal", longer)
    assert rows_of([transaction_of("t", terminal_id="x" * 1_024)])["value"][0, 0] != 0


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["latitude", "usual", "largest", "ring_amount", "ring_ratio"])
def test_stored_number_that_is_none_empties_its_card_and_is_counted(
    field: str, number: float
) -> None:
    """A damaged state is worth less than none; the cards beside it stay."""
    values = np.zeros(3, CARD_VALUE)
    values["state"]["rows"] = 5
    values["state"][field][1] = number

    emptied = empty_unsound(values)

    assert emptied == 1
    assert values["state"]["rows"].tolist() == [5, 0, 5]
    assert is_sound(values["state"]).all()


def test_batch_over_a_damaged_state_begins_afresh_and_says_so() -> None:
    """The counter of corrupt states tells the operator; the row is decided as a first one."""
    damaged = np.zeros(1, CARD_VALUE)
    damaged["state"]["rows"], damaged["state"]["usual"] = 9, np.nan
    before = CORRUPT_STATES._value.get()

    batch = advance_batch(
        _SHARD, 0, [_row("t-1")], {token_of("card-1"): damaged.tobytes()}, _NO_ENTITIES
    )

    assert CORRUPT_STATES._value.get() == before + 1
    assert batch.values["state"]["rows"].tolist() == [1]
    assert is_sound(batch.values["state"]).all()
    assert not np.isinf(batch.vectors).any()


@pytest.mark.parametrize("stored", [None, b"", b"short", bytes(CARD_VALUE.itemsize + 1)])
def test_stored_bytes_of_another_size_read_as_empty(stored: bytes | None) -> None:
    """What is not a value of this layout is no value."""
    assert unpack_values([stored], CARD_VALUE).tobytes() == bytes(CARD_VALUE.itemsize)


def test_names_of_claims_do_not_grow_with_ids() -> None:
    """However long the ids of a bank are, identity and claim have a fixed size."""
    sizes = {len(identity_of("bank", "card", "t" * length)) for length in (1, 64, 1_024)}

    assert sizes == {16}
    assert len(pack_claim(bytes(32), 7)) == len(pack_claim(bytes(32), 2**40))
