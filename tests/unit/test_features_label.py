"""What becomes of a label: on to the entities of its transaction, or refused with its reason."""

from __future__ import annotations

import pytest
from aiokafka import ConsumerRecord

from fraudstream.features.catalogue import Entity
from fraudstream.features.codec import ENTITY_OF_KIND
from fraudstream.identity import identity_of
from fraudstream.reject_reasons import RejectReason
from fraudstream.v1.features_pb2 import EntityRow, EntityRowKind
from fraudstream.v1.label_pb2 import Disposition, Label
from services.features.entity_rows import label_rows
from services.features.label import decode_label
from services.features.logs import Log
from services.features.rows import BadRow
from tests.accepted_rows import EVENT_MS, accepted_record

_LABELS = Log("labels", b"l" * 16, 4)
_MINUTE_MS = 60_000
_CARD = "card-1"
_FRAUD, _GENUINE = Disposition.DISPOSITION_CONFIRMED_FRAUD, Disposition.DISPOSITION_GENUINE


def _label(disposition: Disposition = _FRAUD) -> Label:
    return Label(
        label_id="l-1",
        bank_id="bank",
        transaction_id="t-1",
        card_token=_CARD,
        event_time_ms=EVENT_MS - _MINUTE_MS,
        disposition=disposition,
        customer_id="customer-1",
        merchant_id="merchant-1",
        terminal_id="terminal-1",
        device_id="device-1",
        ip="192.0.2.1",
        settled_at_ms=EVENT_MS,
    )


def _record(label: Label, key: bytes = b"card-1") -> ConsumerRecord:
    return accepted_record(None, 7, value=label.SerializeToString(), key=key)


def _rows(label: Label) -> list[EntityRow]:
    return list(label_rows(label, _LABELS, _record(label)))


def _reason(record: ConsumerRecord) -> str:
    found = decode_label(record)
    return found.reason if isinstance(found, BadRow) else "none"


@pytest.mark.parametrize("disposition", [_FRAUD, _GENUINE])
def test_settled_label_goes_to_every_entity_of_its_transaction(disposition: Disposition) -> None:
    """Six rows of one source offset, in the order of their kinds, as the high marks need it."""
    rows = _rows(_label(disposition))

    assert {ENTITY_OF_KIND[row.entity_kind] for row in rows} == set(Entity)
    assert [row.entity_kind for row in rows] == sorted(row.entity_kind for row in rows)
    assert {row.kind for row in rows} == {EntityRowKind.ENTITY_ROW_KIND_LABEL}
    assert {row.event_time_ms for row in rows} == {EVENT_MS - _MINUTE_MS}
    assert {row.identity for row in rows} == {identity_of("bank", "card-1", "t-1")}
    assert {row.is_fraud for row in rows} == {disposition == _FRAUD}


def test_entity_that_the_transaction_lacks_gets_no_label() -> None:
    """A purchase in a shop has no device and no address."""
    label = _label()
    label.device_id = label.ip = ""

    found = {ENTITY_OF_KIND[row.entity_kind] for row in _rows(label)}

    assert found == set(Entity) - {Entity.DEVICE, Entity.IP}


@pytest.mark.parametrize(
    "disposition",
    [Disposition.DISPOSITION_UNDETERMINED, Disposition.DISPOSITION_UNSPECIFIED],
)
def test_label_that_settles_nothing_goes_nowhere(disposition: Disposition) -> None:
    """An undetermined case is neither a fraud nor genuine, and no fault of the record."""
    assert _rows(_label(disposition)) == []
    assert _reason(_record(_label(disposition))) == "none"


@pytest.mark.parametrize(
    ("before_ms", "expected"),
    [(-1, RejectReason.LABEL_TIME), (0, "none"), (1, "none")],
)
def test_label_settled_before_its_transaction_happened_is_refused(
    before_ms: int, expected: str
) -> None:
    """Nobody can know what became of a purchase that is still to come."""
    label = _label()
    label.settled_at_ms = label.event_time_ms + before_ms

    assert _reason(_record(label)) == expected


def test_label_without_a_time_was_given_when_it_arrived() -> None:
    """What a bank leaves out is no contradiction."""
    label = _label()
    label.settled_at_ms = 0

    assert _reason(_record(label)) == "none"


@pytest.mark.parametrize(
    ("event_ms", "expected"),
    [
        (EVENT_MS + 5 * _MINUTE_MS, "none"),
        (EVENT_MS + 5 * _MINUTE_MS + 1, RejectReason.TIME_FUTURE),
        (EVENT_MS - 400 * 1_440 * _MINUTE_MS, "none"),
        (0, RejectReason.TIME_INVALID),
        (EVENT_MS // 1_000, RejectReason.TIME_INVALID),
    ],
)
def test_event_time_of_a_label_is_bounded_as_a_transactions_is(
    event_ms: int, expected: str
) -> None:
    """Five minutes after the append at most, and milliseconds; a label is never too late."""
    label = _label()
    label.event_time_ms, label.settled_at_ms = event_ms, 0

    assert _reason(_record(label)) == expected


def test_label_under_the_key_of_another_card_is_refused() -> None:
    """Labels of one transaction must come in order: their card's partition keeps it."""
    assert _reason(_record(_label(), key=b"other")) == "KEY_MISMATCH"


def test_other_bytes_are_no_label() -> None:
    """What does not decode is dead-lettered, not raised."""
    assert _reason(accepted_record(None, 0, value=b"\xff\xff\xff", key=b"k")) == "DECODE"
