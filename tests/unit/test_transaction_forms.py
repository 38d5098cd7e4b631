"""What a sender may vary: encodings, spellings, later fields, names of other scripts."""

from __future__ import annotations

import json

import pytest
from google.protobuf.json_format import MessageToJson

from fraudstream.errors import InvalidTransaction
from fraudstream.identity import digest_of
from fraudstream.money import indicative_rate_table
from fraudstream.privacy import Tokeniser, TokenKeys
from fraudstream.transaction import (
    CONTENT_TYPE,
    MESSAGE_TYPE,
    PROTOBUF,
    SCHEMA_VERSION,
    TimeBounds,
    canonicalise,
    decode_transaction,
    validate_transaction,
)
from fraudstream.transaction_json import decode_json
from fraudstream.v1.transaction_pb2 import Channel, Transaction, TransactionKind
from tests.bad_samples import good_sample
from training.messages import pan_of

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


def test_what_protobufs_own_printer_writes_is_read() -> None:
    """64-bit numbers in strings and full enum names are the mapping's own form."""
    transaction = good()
    printed = MessageToJson(transaction, preserving_proto_field_name=True).encode()

    assert decode_json(printed) == transaction


def test_content_type_may_carry_parameters() -> None:
    """`application/json; charset=utf-8` is JSON."""
    headers = [(CONTENT_TYPE, b"Application/JSON; charset=utf-8")]

    assert decode_transaction(good_sample(NOW_MS), headers).bank_id == "bank-north"


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


def test_another_cards_number_in_an_id_is_no_fault() -> None:
    """One 16-digit number in ten passes Luhn by chance: in ids only the own number counts."""
    assert valid_with(customer_id=pan_of(1)).customer_id == pan_of(1)


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


@pytest.mark.parametrize("ip", ["203.0.113.7", "2001:db8::17", "::ffff:203.0.113.7"])
def test_addresses_of_both_families_are_taken(ip: str) -> None:
    """IPv4 and IPv6."""
    assert valid_with(ip=ip).ip == ip


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
    """A bank with a vault of its own may send the token instead of the number."""
    fields = json.loads(good_sample(NOW_MS))
    del fields["pan"]
    token = f"bank-north.k7.{'ab' * 16}"
    transaction = decode_json(json.dumps({**fields, "card_token": token}).encode())
    validate_transaction(transaction, NOW_MS)
    canonicalise(
        transaction, Tokeniser(TokenKeys("k1", {"k1": bytes(32)})), indicative_rate_table()
    )

    assert transaction.card_token == token
