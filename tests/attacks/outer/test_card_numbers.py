"""Card data in every field and form: refused, and nothing of them is kept."""

from __future__ import annotations

import json

import pytest
from nacl.public import PrivateKey

from fraudstream.dead_letters.letter import LetterWriter, SourceRecord
from fraudstream.errors import FraudStreamError, InvalidTransaction, RuleSetRefused
from fraudstream.rules.rule_set import parse_rule_set
from fraudstream.transaction.formats import PROTOBUF
from fraudstream.transaction.validate import decode_transaction, validate_transaction
from services.scoring.stream.request import read_batch
from tests.material.bad_samples import good_sample
from tests.material.card_forms import NUMBERS, SENSITIVE, Form
from tests.worlds.scoring_world import batch_of, feature_rows, some_transaction
from training.simulator.messages import pan_of

pytestmark = pytest.mark.attack

NOW_MS = 1_780_000_000_000
OTHER = pan_of(1)
TOKEN = f"bank-north.k7.{'ab' * 16}"
FIELDS = ("transaction_id", "customer_id", "merchant_id", "terminal_id", "device_id")
REFUSED = {"PAN_PRESENT", "SAD_PRESENT"}
# What is longer than an id may be, or no id of the form, is refused as such.
NOT_KEPT = REFUSED | {"FIELD_TOO_LONG", "CONTROL_CHARACTER", "ID_INVALID"}


def _record(**changes: object) -> bytes:
    """Return a good record with a card token, changed."""
    fields = json.loads(good_sample(NOW_MS)) | {"card_token": TOKEN} | changes
    return json.dumps({name: text for name, text in fields.items() if name != "pan"}).encode()


def _reason_of(value: bytes, content_type: bytes = b"application/json") -> str:
    """Return why a record is refused; nothing where it is taken."""
    try:
        transaction = decode_transaction(value, [("content-type", content_type)], [])
        validate_transaction(transaction, NOW_MS)
    except InvalidTransaction as exc:
        return str(exc.reason)
    return ""


def _letter_of(value: bytes, reason: str) -> str:
    writer = LetterWriter(PrivateKey.generate().public_key, "test", lambda: NOW_MS)
    source = SourceRecord("transactions.raw.v1", 0, 0, NOW_MS, None, value, [])
    return writer.letter_of(source, reason, "refused").value.decode()


def test_the_record_is_taken_as_it_is() -> None:
    """Else nothing below would show anything."""
    assert _reason_of(_record()) == ""


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("form", SENSITIVE.values(), ids=SENSITIVE)
def test_p1_track_or_value_in_an_id_is_refused(form: Form, field: str) -> None:
    """Sensitive authentication data are in no id, by either format, whatever form they have."""
    text = form(OTHER)
    as_message = decode_transaction(_record(), [])
    setattr(as_message, field, text)

    reasons = {_reason_of(_record(**{field: text})),
               _reason_of(as_message.SerializeToString(), PROTOBUF)}  # fmt: skip

    assert reasons <= {"SAD_PRESENT", "FIELD_TOO_LONG", "ID_INVALID"}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("form", NUMBERS.values(), ids=NUMBERS)
def test_p2_number_of_any_card_in_an_id_is_refused(form: Form, field: str) -> None:
    """Beside a token too, in any script, escape, code and with any marks."""
    assert _reason_of(_record(**{field: form(OTHER)})) in NOT_KEPT


@pytest.mark.parametrize("address", ["{0}:{1}:{2}:{3}::", "2001:db8::{0}:{1}:{2}:{3}"])
def test_p2_number_as_an_address_is_refused(address: str) -> None:
    """An IPv6 address can spell a card number."""
    groups = [OTHER[start : start + 4] for start in range(0, 16, 4)]

    assert _reason_of(_record(ip=address.format(*groups))) == "PAN_PRESENT"


@pytest.mark.parametrize(
    "form", [*NUMBERS.values(), *SENSITIVE.values()], ids=[*NUMBERS, *SENSITIVE]
)
def test_p3_dead_letter_shows_nothing_of_a_number(form: Form) -> None:
    """Its reason may be another; its text holds no digits of a card in any form."""
    value = _record(note=form(OTHER), amount_minor=-1)

    letter = _letter_of(value, _reason_of(value) or "AMOUNT_SIGN")

    shown = json.loads(letter)
    shown.pop("sealed", None)
    text = json.dumps(shown, ensure_ascii=False)
    assert form(OTHER) not in text
    assert OTHER not in "".join(filter(str.isdigit, str(shown.get("preview"))))


@pytest.mark.parametrize(
    "name",
    ["cvv_code", "cardCvv", "cvvNumber", "card_cvv", "pinBlock", "cvc2value", "track_2_data"],
)
def test_p4_field_of_a_verification_value_is_refused_and_not_sealed(name: str) -> None:
    """Names count by their stem; such a record leaves its size and digest only."""
    value = _record(**{name: "123"})

    assert _reason_of(value) == "SAD_PRESENT"
    assert "sealed" not in _letter_of(value, "AMOUNT_SIGN")


@pytest.mark.parametrize("is_packed", [False, True])
def test_p4_track_of_a_chip_is_not_sealed(*, is_packed: bool) -> None:
    """Field 35 divides number and date by D, in text and in packed bytes."""
    track = f"{OTHER}D25121011000012345678"
    value = bytes.fromhex(f"5711{track}F") if is_packed else track.encode()

    letter = _letter_of(value, "DECODE")

    assert "sealed" not in letter
    assert track not in letter


@pytest.mark.parametrize("where", ["pan", "merchant_id"])
def test_p5_internal_scoring_takes_no_number(where: str) -> None:
    """A row of the features service has a token, and its names hold no card number."""
    request = batch_of(feature_rows([some_transaction(1)]))
    setattr(request.rows[0].transaction, where, OTHER)

    with pytest.raises(FraudStreamError, match="card number"):
        read_batch(request, request.rows[0].transaction.event_time_ms)


@pytest.mark.parametrize(
    "line",
    [
        '[[rules]]\ncode="AAA"\nwhen="true"\naction="review"\ntext="pan {escaped}"',
        '[lists.known]\nfield="merchant_id"\nkind="watch"\nentries={{"{escaped}"=2027-01-01}}',
        "# {spaced}",
        '[[rules]]\ncode="AAA"\nwhen="merchant_id == \'{spaced}\'"\naction="review"\ntext="x"',
    ],
)
def test_p7_rule_file_with_a_number_is_refused(line: str) -> None:
    """As TOML means it, and as it is written."""
    escaped = "".join(f"\\u{ord(digit):04x}" for digit in OTHER)
    spaced = "   ".join(OTHER[start : start + 4] for start in range(0, 16, 4))
    written = 'id="a"\nversion=1\nstand_in.otherwise="review"\n'

    with pytest.raises(RuleSetRefused, match="holds a card number"):
        parse_rule_set(written + line.format(escaped=escaped, spaced=spaced))


@pytest.mark.parametrize(
    ("bank", "token"),
    [
        ("bank-north", f"bank-north.k1.{OTHER}{'0' * 16}"),
        ("bank-north", f"bank-north.{OTHER}.{'ab' * 16}"),
        (OTHER, f"{OTHER}.k1.{'ab' * 16}"),
    ],
)
def test_p8_token_and_bank_are_no_number(bank: str, token: str) -> None:
    """The parts of a card token are looked at like any id."""
    assert _reason_of(_record(bank_id=bank, card_token=token)) == "PAN_PRESENT"


def test_p8_amount_that_looks_like_a_number_is_an_amount() -> None:
    """Integers of the schema are no ids."""
    amount = "378282246310005"[:14]

    assert _reason_of(_record(amount_minor=int(amount))) == ""


def test_f1_long_field_of_digits_is_searched_in_one_pass() -> None:
    """The steps, not the time, are compared in tests/unit/transaction/test_card_data.py."""
    assert _reason_of(_record(note="4" * 60_000)) == ""
