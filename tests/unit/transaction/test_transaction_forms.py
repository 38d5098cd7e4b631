"""What a sender may vary: encodings, spellings, later fields, names of other scripts."""

from __future__ import annotations

import json
import re

import pytest
from google.protobuf.json_format import MessageToJson

from fraudstream.errors import InvalidTransaction
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.formats import CONTENT_TYPE, PROTOBUF
from fraudstream.transaction.identity import digest_of
from fraudstream.transaction.json_form import decode_json
from fraudstream.transaction.money import indicative_rate_table
from fraudstream.transaction.validate import (
    MESSAGE_TYPE,
    SCHEMA_VERSION,
    canonicalise,
    decode_transaction,
    validate_transaction,
)
from fraudstream.v1.transaction_pb2 import Channel, Transaction, TransactionKind
from tests.material.bad_samples import good_sample
from training.simulator.messages import pan_of

NOW_MS = 1_780_000_000_000
PROTOBUF_HEADERS = [
    (CONTENT_TYPE, PROTOBUF),
    (MESSAGE_TYPE, b"fraudstream.v1.Transaction"),
    (SCHEMA_VERSION, b"1.4"),
]


def good() -> Transaction:
    """Return a valid transaction."""
    return decode_json(good_sample(NOW_MS))


def valid_with(**changes: object) -> Transaction:
    """Return a valid transaction with some fields changed, after validation."""
    transaction = decode_json(json.dumps({**json.loads(good_sample(NOW_MS)), **changes}).encode())
    validate_transaction(transaction, NOW_MS)
    return transaction


def test_both_encodings_give_one_transaction() -> None:
    """Protobuf and JSON of the same transaction have one digest."""
    transaction = good()
    from_protobuf = decode_transaction(transaction.SerializeToString(), PROTOBUF_HEADERS)

    assert from_protobuf == transaction
    assert digest_of(from_protobuf) == digest_of(transaction)


@pytest.mark.parametrize("has_proto_names", [True, False])
@pytest.mark.parametrize("has_numbers", [True, False])
@pytest.mark.parametrize("is_whole", [True, False])
def test_what_protobufs_own_printer_writes_is_read(
    has_proto_names: bool, has_numbers: bool, is_whole: bool
) -> None:
    """Both names of a field, 64-bit numbers in strings, enums by name or number, empty fields."""
    transaction = good()
    transaction.ip = ""
    printed = MessageToJson(
        transaction,
        preserving_proto_field_name=has_proto_names,
        use_integers_for_enums=has_numbers,
        always_print_fields_with_no_presence=is_whole,
    ).encode()

    assert decode_json(printed) == transaction


def test_field_by_both_of_its_names_is_refused() -> None:
    """Which of the two counts is nobody's to guess; the message names it."""
    with pytest.raises(InvalidTransaction, match="DUP_KEY: entry_mode is given twice"):
        valid_with(entryMode="chip")


@pytest.mark.parametrize(
    ("name", "content", "is_protobuf"),
    [
        ("content-type", b"Application/JSON; charset=utf-8", False),
        ("Content-Type", b"application/json", False),
        ("content-type", None, False),
        ("content-type", b"", False),
        ("x-other", b"application/protobuf", False),
        ("Content-Type", b"application/x-protobuf", True),
        ("CONTENT-TYPE", b"application/protobuf", True),
        ("content-type", b"application/vnd.google.protobuf; messageType=x", True),
    ],
)
def test_content_type_is_read_as_others_write_it(
    name: str, content: bytes | None, is_protobuf: bool
) -> None:
    """Capitals, parameters, the registered names; a header without content says nothing."""
    sent = good()
    value = sent.SerializeToString() if is_protobuf else good_sample(NOW_MS)

    assert decode_transaction(value, [(name, content)]).bank_id == sent.bank_id  # type: ignore[list-item]  # Kafka allows None


@pytest.mark.parametrize(
    ("written", "amount_minor"),
    [("1050.0", 1050), ("1e3", 1000), ("1.05E3", 1050), ("-0.0", 0), ('"1050"', 1050)],
)
def test_whole_number_is_read_as_json_writes_it(written: str, amount_minor: int) -> None:
    """JSON has one kind of number: a point or an exponent makes no fraction."""
    fields = json.loads(good_sample(NOW_MS)) | {"amount_minor": "@"}
    sent = json.dumps(fields).replace('"@"', written).encode()

    assert decode_json(sent).amount_minor == amount_minor


@pytest.mark.parametrize(("offset", "exponent"), [(60, 2), (60.0, 2.0), ("60", "2")])
def test_every_whole_number_may_be_a_text_or_have_a_point(
    offset: float | str, exponent: float | str
) -> None:
    """Also the numbers of 32 bits."""
    valid = valid_with(utc_offset_minutes=offset, currency_exponent=exponent)

    assert (valid.utc_offset_minutes, valid.currency_exponent) == (60, 2)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("1000.5", "AMOUNT_FRACTION: amount_minor: expected a whole number of minor units, found"),
        ("1e16", "AMOUNT_RANGE"),
        ("9007199254740993.0", "AMOUNT_RANGE"),
        ("1e999", "AMOUNT_NOT_FINITE"),
    ],
)
def test_number_that_is_not_whole_or_not_exact_is_refused(written: str, reason: str) -> None:
    """Nothing is rounded, and the reason is the true one."""
    fields = json.loads(good_sample(NOW_MS)) | {"amount_minor": "@"}

    with pytest.raises(InvalidTransaction, match=reason):
        decode_json(json.dumps(fields).replace('"@"', written).encode())


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"\0\0\0\0\x07", id="Confluent"),
        pytest.param(b"\0" + bytes(7) + b"\x07", id="Apicurio"),
        pytest.param(b"\x03\0" + bytes(range(16)), id="AWS Glue"),
    ],
)
def test_bytes_of_a_schema_registry_are_named(head: bytes) -> None:
    """In front of JSON and of Protobuf, whatever the header says."""
    for value in (good_sample(NOW_MS), b"\0" + good().SerializeToString()):
        for headers in ([], PROTOBUF_HEADERS):
            with pytest.raises(InvalidTransaction, match="REGISTRY_FRAMED"):
                decode_transaction(head + value, headers)


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-32-be", "utf-16"])
def test_another_encoding_is_no_schema_registry(encoding: str) -> None:
    """UTF-16 and UTF-32 have zero bytes too."""
    with pytest.raises(InvalidTransaction, match="ENCODING"):
        decode_transaction(good_sample(NOW_MS).decode().encode(encoding), [])


def test_fields_that_the_schema_does_not_have_are_named_to_the_caller() -> None:
    """In both encodings; what they hold stays out."""
    by_json: list[str] = []
    decode_json(b'{"bank_id": "b", "loyaltyPoints": 1, "note": {"bank_id": "x"}}', by_json)
    by_protobuf: list[str] = []
    sent = good().SerializeToString() + b"\xfa\x3e\x05extra"
    decode_transaction(sent, PROTOBUF_HEADERS, by_protobuf)

    assert by_json == ["loyaltyPoints", "note"]
    assert by_protobuf == ["field 1007"]


def test_fields_of_a_later_minor_version_are_dropped() -> None:
    """An unknown field is no fault, and nothing of it goes further."""
    unknown = b"\xfa\x3e\x05extra"
    sent = good().SerializeToString()

    assert decode_transaction(sent + unknown, PROTOBUF_HEADERS).SerializeToString() == sent
    assert valid_with(loyalty={"points": [1, 2.5, None, True]}).bank_id == "bank-north"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Caf\u00e9 \ufb01ne", "Caf\u00e9 fine"),
        ("shop\u202egnp", "shopgnp"),
        ("sh\u200bop\ufeff", "shop"),
        ("\uff33\uff28\uff2f\uff30", "SHOP"),
        ("\u0428\u043e\u043f", "\u0428\u043e\u043f"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("'; DROP TABLE cards --", "'; DROP TABLE cards --"),
    ],
)
def test_name_is_kept_in_its_normal_form(written: str, kept: str) -> None:
    """Marks that only change how a name is shown cannot make two names of one."""
    assert valid_with(merchant_id=written).merchant_id == kept


def test_card_number_in_digits_of_another_script_is_found_in_a_name() -> None:
    """Normal form does not turn Arabic digits into ASCII ones: the search does."""
    pan = json.loads(good_sample(NOW_MS))["pan"]
    disguised = "".join(chr(0x0660 + int(digit)) for digit in pan)

    with pytest.raises(InvalidTransaction, match="PAN_PRESENT"):
        valid_with(merchant_id=f"shop {disguised}")


def test_another_cards_number_in_an_id_is_refused() -> None:
    """An id that is a card number in an issuer's range is one, whoever's."""
    with pytest.raises(InvalidTransaction, match="PAN_PRESENT"):
        valid_with(customer_id=pan_of(1))


@pytest.mark.parametrize("kind", ["refund", "reversal"])
def test_movements_back_are_positive(kind: str) -> None:
    """The kind says the direction, never the sign."""
    assert valid_with(kind=kind, amount_minor=5).amount_minor == 5


def test_verification_may_be_of_zero() -> None:
    """Only a verification moves no money."""
    assert valid_with(kind="verification", amount_minor=0).kind == (
        TransactionKind.TRANSACTION_KIND_VERIFICATION
    )


def test_what_an_authorisation_may_lack_is_optional() -> None:
    """Merchant code, country, entry mode, place and device are often unknown."""
    fields = json.loads(good_sample(NOW_MS))
    for name in ("mcc", "country", "entry_mode", "location", "terminal_id", "customer_id"):
        del fields[name]
    transaction = decode_json(json.dumps(fields).encode())
    validate_transaction(transaction, NOW_MS)

    assert transaction.channel == Channel.CHANNEL_POS


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:CB00:7107", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:0db8::0001", "2001:db8::1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
    ],
)
def test_address_is_kept_in_its_one_spelling(written: str, kept: str) -> None:
    """As RFC 5952 writes it, and IPv4 as IPv4: another spelling is no other address."""
    assert valid_with(ip=written).ip == kept


@pytest.mark.parametrize(
    "ip", ["203.0.113.07", "203.0.113", "fe80::1%eth0", "[2001:db8::1]", "203.0.113.7:443", "::g"]
)
def test_what_is_no_address_is_refused(ip: str) -> None:
    """Leading zeros (octal to some), zone ids, brackets and ports are not part of an address."""
    with pytest.raises(InvalidTransaction, match="IP"):
        valid_with(ip=ip)


@pytest.mark.parametrize("field", ["merchant_id", "terminal_id", "customer_id", "device_id"])
@pytest.mark.parametrize("name", ["SHOP01", "SH\u00d6P01"])
def test_blanks_that_fill_a_field_up_are_no_part_of_a_name(field: str, name: str) -> None:
    """In every script: the padded copy has the digest of the trimmed one."""
    same = {"transaction_id": "t-1"}
    trimmed = valid_with(**same, **{field: name})

    for padded in (f"{name}       ", f" {name}", "  " + name + "\u3000"):
        copy = valid_with(**same, **{field: padded})
        assert getattr(copy, field) == name
        assert digest_of(copy) == digest_of(trimmed)


@pytest.mark.parametrize("blank", ["   ", "\u3000\u3000", "\u200b "])
def test_name_of_blanks_is_missing(blank: str) -> None:
    """A transaction needs a merchant or terminal with a name."""
    assert valid_with(merchant_id=blank).merchant_id == ""
    with pytest.raises(InvalidTransaction, match="MERCHANT_MISSING"):
        valid_with(merchant_id=blank, terminal_id=blank)


def test_card_number_filled_up_with_zeros_is_refused() -> None:
    """It would be another card: no issuer's number begins with 0."""
    pan = json.loads(good_sample(NOW_MS))["pan"]

    with pytest.raises(InvalidTransaction, match="without zeros that fill up"):
        valid_with(pan=pan.zfill(19))


@pytest.mark.parametrize("field", ["transaction_id", "merchant_id", "customer_id", "device_id"])
@pytest.mark.parametrize(
    "track", [";{pan}=3012101", "%B{pan}^DOE/JANE^3012101", "x{pan}\uff1d3012"]
)
def test_track_data_in_an_id_is_refused(field: str, track: str) -> None:
    """Of the card or another one, and with a token in the card's place too."""
    text = track.format(pan=pan_of(1))
    token = f"bank-north.k7.{'ab' * 16}"
    fields = json.loads(good_sample(NOW_MS)) | {field: text}
    with_token = {n: v for n, v in fields.items() if n != "pan"} | {"card_token": token}
    is_ascii = text.isascii() or field != "transaction_id"

    for sent in (fields, with_token):
        transaction = decode_json(json.dumps(sent).encode())
        with pytest.raises(InvalidTransaction, match="SAD_PRESENT" if is_ascii else "ID_INVALID"):
            validate_transaction(transaction, NOW_MS)


def test_payment_in_kosovo_is_taken() -> None:
    """Cards are used there, and the code that the world uses is not ISO's."""
    assert valid_with(country="XK").country == "XK"


@pytest.mark.parametrize(
    ("field", "code", "told"),
    [
        ("country", "UK", "the United Kingdom is GB"),
        ("country", "de", "two letters (alpha-2), as DE, found small ones"),
        ("country", "276", "found a number"),
        ("country", "DEU", "two letters (alpha-2), as DE"),
        ("currency", "eur", "three letters, as EUR, found small ones"),
        ("currency", "978", "found a number"),
        ("currency", "", "found nothing"),
    ],
)
def test_refused_code_says_how_it_is_written(field: str, code: str, told: str) -> None:
    """What was expected, and what was found."""
    with pytest.raises(InvalidTransaction, match=re.escape(told)):
        valid_with(**{field: code})


@pytest.mark.parametrize(
    ("event_time_ms", "told"),
    [
        (NOW_MS // 1_000, "looks like seconds"),
        (NOW_MS * 1_000, "looks like microseconds"),
        (NOW_MS * 1_000_000, "looks like nanoseconds"),
        (0, "is missing or not between the years 2000 and 2100"),
    ],
)
def test_unit_of_a_wrong_time_is_named(event_time_ms: int, told: str) -> None:
    """Seconds for milliseconds are the most frequent mistake."""
    with pytest.raises(InvalidTransaction, match=f"TIME_INVALID: event_time_ms {told}"):
        valid_with(event_time_ms=event_time_ms)


def test_time_bounds_are_inclusive() -> None:
    """Exactly five minutes ahead and exactly the lateness bound behind are still taken."""
    bounds = TimeBounds()
    for event_time_ms in (NOW_MS + bounds.future_ms, NOW_MS - bounds.lateness_ms):
        assert valid_with(event_time_ms=event_time_ms).event_time_ms == event_time_ms


def test_canonical_transaction_holds_no_card_number() -> None:
    """The token takes its place, with the reference amount and the table's version."""
    transaction = valid_with(currency="USD", amount_minor=1150)
    pan = transaction.pan
    canonicalise(
        transaction, Tokeniser(TokenKeys("k1", {"k1": bytes(32)})), indicative_rate_table()
    )

    assert pan.encode() not in transaction.SerializeToString()
    assert transaction.card_token.startswith("bank-north.k1.")
    assert (transaction.amount_reference_minor, transaction.rate_table_version) == (
        1000,
        "indicative-1",
    )


def test_token_of_the_sender_is_kept() -> None:
    """A bank with a vault of its own may send the token, if its key is named."""
    fields = json.loads(good_sample(NOW_MS))
    del fields["pan"]
    token = f"bank-north.k7.{'ab' * 16}"
    transaction = decode_json(json.dumps({**fields, "card_token": token}).encode())
    validate_transaction(transaction, NOW_MS)
    keys = TokenKeys("k1", {"k1": bytes(32)})
    canonicalise(transaction, Tokeniser(keys, ["k7"]), indicative_rate_table())

    assert transaction.card_token == token
    with pytest.raises(InvalidTransaction, match=r"CARD_TOKEN: .* a key that is known here"):
        canonicalise(transaction, Tokeniser(keys), indicative_rate_table())
