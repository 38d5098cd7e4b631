"""For any transaction: JSON and protobuf carry the same, and no bytes break the decoder."""

from __future__ import annotations

import json
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from nacl.public import PrivateKey

from fraudstream.card_data.detector import kind_of, mask
from fraudstream.dead_letters.letter import LetterWriter, SourceRecord
from fraudstream.errors import InvalidTransaction, LateTransaction
from fraudstream.names import canonical_address, canonical_name, is_canonical_name
from fraudstream.reject_reasons import RejectReason
from fraudstream.tools.transaction_schema import SCHEMA_PATH
from fraudstream.transaction.formats import CONTENT_TYPE, JSON, PROTOBUF
from fraudstream.transaction.identity import digest_of
from fraudstream.transaction.json_form import decode_json, encode_json
from fraudstream.transaction.validate import decode_transaction, validate_transaction
from fraudstream.v1.transaction_pb2 import (
    Channel,
    EntryMode,
    Location,
    Transaction,
    TransactionKind,
)
from tests.material.bad_samples import good_sample
from training.simulator.messages import luhn_digit

NOW_MS = 1_780_000_000_000
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=70)
INT64 = st.integers(-(2**63), 2**63 - 1)

TRANSACTIONS = st.builds(
    Transaction,
    bank_id=TEXTS,
    transaction_id=TEXTS,
    card_token=TEXTS,
    kind=st.sampled_from(TransactionKind.values()),
    customer_id=TEXTS,
    merchant_id=TEXTS,
    terminal_id=TEXTS,
    mcc=TEXTS,
    amount_minor=INT64,
    currency=TEXTS,
    event_time_ms=INT64,
    utc_offset_minutes=st.integers(-(2**31), 2**31 - 1),
    channel=st.sampled_from(Channel.values()),
    entry_mode=st.sampled_from(EntryMode.values()),
    country=TEXTS,
    device_id=TEXTS,
    ip=TEXTS,
    location=st.none()
    | st.builds(Location, latitude=st.floats(-90, 90), longitude=st.floats(-180, 180)),
    currency_exponent=st.none() | st.integers(0, 2**32 - 1),
)


@given(TRANSACTIONS)
def test_json_carries_what_protobuf_carries(transaction: Transaction) -> None:
    """Decoding what was encoded gives the same message, by either way, with one digest."""
    by_json = decode_transaction(encode_json(transaction) or b"{}", [(CONTENT_TYPE, JSON)])
    encoded = transaction.SerializeToString()
    by_protobuf = decode_transaction(encoded, [(CONTENT_TYPE, PROTOBUF)]) if encoded else by_json

    assert by_json == by_protobuf == transaction
    assert digest_of(by_json) == digest_of(by_protobuf)


@given(TRANSACTIONS, st.integers(0, 4_102_444_800_000))
def test_validation_refuses_or_passes_and_nothing_else(
    transaction: Transaction, append_time_ms: int
) -> None:
    """Whatever the fields hold, the answer is a typed one, and a second look agrees."""
    try:
        validate_transaction(transaction, append_time_ms)
    except (InvalidTransaction, LateTransaction):
        return

    validate_transaction(transaction, append_time_ms)


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"])
    | st.sampled_from("\u200d\u0301e \u3000\uff21\ufb01\u1100\u1161\u00a8"),
    max_size=12,
)


@given(NAMES, st.text(" ", max_size=3), st.text(" ", max_size=3))
def test_spelling_of_a_name_is_one(name: str, before: str, behind: str) -> None:
    """Padding changes nothing, and what has its one spelling keeps it."""
    kept = canonical_name("merchant_id", name)

    assert canonical_name("merchant_id", kept) == kept
    assert canonical_name("merchant_id", before + kept + behind) == kept
    assert not is_canonical_name(name) or kept == name


@given(st.ip_addresses(), st.booleans(), st.booleans())
def test_spelling_of_an_address_is_one(
    address: IPv4Address | IPv6Address, is_long: bool, is_upper: bool
) -> None:
    """Long or short, in capitals, or IPv4 inside IPv6."""
    kept = canonical_address(str(address))
    text = address.exploded if is_long else str(address)
    spellings = [text.upper() if is_upper else text]
    if isinstance(address, IPv4Address):
        spellings += [
            f"::ffff:{address}",
            f"::FFFF:{int(address) >> 16:x}:{int(address) & 65535:X}",
        ]

    assert {canonical_address(each) for each in spellings} == {kept}


@given(
    st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode(errors="replace"))
)
def test_no_bytes_break_the_decoder(value: bytes) -> None:
    """Anything that is not a transaction is refused by a reason, in both encodings."""
    for content_type in (JSON, PROTOBUF):
        with suppress(InvalidTransaction):
            decode_transaction(value, [(CONTENT_TYPE, content_type)])


WRITER = LetterWriter(PrivateKey(bytes(range(32))).public_key, "ingest", lambda: NOW_MS)
HEADERS = st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=20)), max_size=3)


@given(st.none() | st.binary(max_size=400), HEADERS)
def test_any_record_has_a_dead_letter(
    value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    """Nothing in a bad record can stop its dead letter; the letter's value is always JSON."""
    record = SourceRecord("raw", 0, 0, NOW_MS, None, value, headers)
    letter = WRITER.letter_of(record, RejectReason.DECODE, "why")

    assert json.loads(letter.value)["message"] == "why"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from([field.name for field in Transaction.DESCRIPTOR.fields]), JSON_VALUES
    )
)
def test_no_json_value_breaks_a_field(fields: dict[str, object]) -> None:
    """A field of any JSON type is taken or refused by a reason."""
    with suppress(InvalidTransaction):
        decode_json(json.dumps(fields).encode())


SCHEMA = Draft202012Validator(json.loads(SCHEMA_PATH.read_text()))
WHOLE_FIELDS = ["amount_minor", "event_time_ms", "utc_offset_minutes", "currency_exponent"]
WHOLE_LIKE = (
    st.integers(-(10**16), 10**16)
    | st.integers(-(10**6), 10**6).map(float)
    | st.integers(946_684_800_000, 4_102_444_799_999).map(float)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(0, 5)
    | st.sampled_from([-0.0, 0.0, 2.0, 2e0, 1e15, 1e15 + 1, 2.0**53, 840.0, -720.0])
)


@given(st.sampled_from(WHOLE_FIELDS), WHOLE_LIKE)
def test_number_that_fits_the_schema_is_taken(field: str, number: float) -> None:
    """The published schema and the decoder are one contract, on both sides."""
    fields = json.loads(good_sample(NOW_MS)) | {"kind": "verification", field: number}
    fits = SCHEMA.is_valid(fields)
    try:
        transaction = decode_json(json.dumps(fields).encode())
        validate_transaction(transaction, max(NOW_MS, transaction.event_time_ms))
    except LateTransaction:
        is_taken = True
    except InvalidTransaction as exc:
        is_taken = exc.reason == RejectReason.CURRENCY_EXPONENT and number in range(5)
    else:
        is_taken = getattr(transaction, field) == number

    assert is_taken == fits


NUMBERS = st.tuples(
    st.sampled_from(["4", "51", "2221", "34", "6011", "3528"]), st.text("0123456789", max_size=12)
)


@given(NUMBERS, st.sampled_from(["", " ", "-", ".", "\u200b"]), st.text('abc {}":,', max_size=8))
@settings(max_examples=60)
def test_no_number_outlives_the_mask(parts: tuple[str, str], mark: str, around: str) -> None:
    """A card number in any text, its digits apart by any mark, is not in the masked text."""
    length = 15 if parts[0] == "34" else 16
    body = (parts[0] + parts[1]).ljust(length - 1, "7")[: length - 1]
    number = mark.join(body + luhn_digit(body))

    assert not kind_of(mask(f"{around}{number}{around}"))
