"""What becomes of a label: on to the entities of its transaction, or refused with its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiokafka import ConsumerRecord

from fraudstream.broker.topic_info import Log
from fraudstream.features.catalogue import Entity
from fraudstream.features.stored_values import ENTITY_OF_KIND
from fraudstream.transaction.identity import identity_of
from fraudstream.v1.features_pb2 import EntityRow, EntityRowKind
from fraudstream.v1.label_pb2 import Disposition, Label, LabelSource
from services.features.roles.label import decode_label
from services.features.rows.entity_row_sender import label_rows
from tests.worlds.accepted_rows import EVENT_MS, accepted_record, token_of

_LABELS = Log("labels", b"l" * 16, 4)
_MINUTE_MS = 60_000
_CARD = token_of("card-1")
_FRAUD, _GENUINE = Disposition.DISPOSITION_CONFIRMED_FRAUD, Disposition.DISPOSITION_GENUINE


def _label(disposition: Disposition = _FRAUD) -> Label:
    return Label(
        label_id="l-1",
        bank_id="bank",
        transaction_id="t-1",
        card_token=_CARD,
        event_time_ms=EVENT_MS - _MINUTE_MS,
        disposition=disposition,
        source=LabelSource.LABEL_SOURCE_CHARGEBACK,
        customer_id="customer-1",
        merchant_id="merchant-1",
        terminal_id="terminal-1",
        device_id="device-1",
        ip="192.0.2.1",
        settled_at_ms=EVENT_MS,
    )


def _record(label: Label, key: bytes = _CARD.encode()) -> ConsumerRecord:
    return accepted_record(None, 7, value=label.SerializeToString(), key=key)


def _rows(label: Label) -> list[EntityRow]:
    return list(label_rows(label, _LABELS, _record(label)))


def _is_taken(record: ConsumerRecord) -> bool:
    return decode_label(record) is not None


@pytest.mark.parametrize("disposition", [_FRAUD, _GENUINE])
def test_settled_label_goes_to_every_entity_of_its_transaction(disposition: Disposition) -> None:
    """Six rows of one source offset, in the order of their kinds, as the high marks need it."""
    rows = _rows(_label(disposition))

    assert {ENTITY_OF_KIND[row.entity_kind] for row in rows} == set(Entity)
    assert [row.entity_kind for row in rows] == sorted(row.entity_kind for row in rows)
    assert {row.kind for row in rows} == {EntityRowKind.ENTITY_ROW_KIND_LABEL}
    assert {row.event_time_ms for row in rows} == {EVENT_MS - _MINUTE_MS}
    assert {row.identity for row in rows} == {identity_of("bank", _CARD, "t-1")}
    assert {row.is_fraud for row in rows} == {disposition == _FRAUD}


def test_entity_that_the_transaction_lacks_gets_no_label() -> None:
    """A purchase in a shop has no device and no address."""
    label = _label()
    label.device_id = label.ip = ""

    found = {ENTITY_OF_KIND[row.entity_kind] for row in _rows(label)}

    assert found == set(Entity) - {Entity.DEVICE, Entity.IP}


@pytest.mark.parametrize(
    "disposition",
    [Disposition.DISPOSITION_UNDETERMINED],
)
def test_label_that_settles_nothing_goes_nowhere(disposition: Disposition) -> None:
    """An undetermined case is neither a fraud nor genuine, and no fault of the record."""
    assert _rows(_label(disposition)) == []
    assert _is_taken(_record(_label(disposition)))


@pytest.mark.parametrize(
    ("before_ms", "expected"),
    [(-1, False), (0, True), (1, True)],
)
def test_label_settled_before_its_transaction_happened_is_refused(
    before_ms: int, *, expected: bool
) -> None:
    """Nobody can know what became of a purchase that is still to come."""
    label = _label()
    label.settled_at_ms = label.event_time_ms + before_ms

    assert _is_taken(_record(label)) == expected


def test_label_without_a_time_was_given_when_it_arrived() -> None:
    """What a bank leaves out is no contradiction."""
    label = _label()
    label.settled_at_ms = 0

    assert _is_taken(_record(label))


@pytest.mark.parametrize(
    ("event_ms", "expected"),
    [
        (EVENT_MS + 65 * _MINUTE_MS, True),
        (EVENT_MS + 65 * _MINUTE_MS + 1, False),
        (EVENT_MS - 400 * 1_440 * _MINUTE_MS, True),
        (0, False),
        (EVENT_MS // 1_000, False),
    ],
)
def test_event_time_of_a_label_is_bounded_as_a_transactions_is(
    event_ms: int, *, expected: bool
) -> None:
    """What a door lets through at most, and milliseconds; a label is never too late."""
    label = _label()
    label.event_time_ms, label.settled_at_ms = event_ms, 0

    assert _is_taken(_record(label)) == expected


def test_label_under_the_key_of_another_card_is_refused() -> None:
    """Labels of one transaction must come in order: their card's partition keeps it."""
    assert not _is_taken(_record(_label(), key=b"other"))


def test_other_bytes_are_no_label() -> None:
    """What does not decode is passed over, not raised."""
    assert not _is_taken(accepted_record(None, 0, value=b"\xff\xff\xff", key=b"k"))


def test_label_reaches_the_entities_of_a_padded_transaction() -> None:
    """A chargeback file and an authorisation switch write one shop and one address differently."""
    plain, padded = _label(), _label()
    padded.merchant_id, padded.terminal_id = "merchant-1     ", " terminal-1"
    padded.ip = "::ffff:192.0.2.1"
    found = decode_label(_record(padded))

    assert found is not None
    assert [row.entity_key for row in _rows(found)] == [row.entity_key for row in _rows(plain)]


def test_label_with_a_control_character_in_an_id_is_refused() -> None:
    """No transaction has such an id."""
    label = _label()
    label.merchant_id = "shop\a"

    assert not _is_taken(_record(label))


def test_label_with_a_stamp_in_seconds_is_refused() -> None:
    """Its arrival is the record's time: where a topic keeps the writer's, it may be anything."""
    record = replace(_record(_label()), timestamp=EVENT_MS // 1_000)

    assert not _is_taken(record)
