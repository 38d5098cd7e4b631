"""The canonical transaction: decoding a record, one reason for each fault, the token for the PAN.

The same checks stand at both doors: `decode_transaction` reads a record of the raw topic, the
gRPC door has a message already; both then call `validate_transaction` and `canonicalise`. No
message of an error holds a value of the record.

Budget: 50 µs for a good JSON record of 500 bytes: 13 to decode it, the most to look for card data.
"""

from __future__ import annotations

import re
from typing import Final

from fraudstream.card_data.detector import (
    CardData,
    is_card_in_address,
    is_number_in_digest,
    kind_of,
)
from fraudstream.card_data.numbers import BREAK, has_luhn_check, holds_own_number
from fraudstream.card_data.plain_text import fold_digits
from fraudstream.errors import InvalidTransaction, LateTransaction
from fraudstream.names import (
    MAX_NAME,
    canonical_address,
    canonical_name,
    is_canonical_name,
)
from fraudstream.reject_reasons import RejectReason
from fraudstream.transaction.card_token import CARD_TOKEN, Tokeniser
from fraudstream.transaction.event_time import USUAL_BOUNDS, TimeBounds, fault_of_time, text_of_time
from fraudstream.transaction.formats import DECODERS, JSON, Headers, content_type_of
from fraudstream.transaction.iso_codes import (
    COUNTRIES,
    CURRENCY_EXPONENTS,
    country_fault,
    currency_fault,
)
from fraudstream.transaction.limits import (
    BANK,
    CHANNELS,
    ENTRY_MODES,
    KINDS,
    LATITUDE,
    LONGITUDE,
    MCC,
    PAN,
    UTC_OFFSETS_MINUTES,
    VERIFICATION,
)
from fraudstream.transaction.money import MAX_AMOUNT_MINOR, RateTable
from fraudstream.v1.transaction_pb2 import Transaction

MESSAGE_TYPE: Final = "message-type"
SCHEMA_VERSION: Final = "schema-version"

MAX_VALUE_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 32
MAX_HEADER_BYTES: Final = 8 * 1024

# What the serialisers of schema registries put in front: Confluent's a 0 and four bytes, Apicurio's
# a 0 and eight, AWS Glue's a version, a compression and a UUID. UTF-16 and UTF-32 begin otherwise.
_FRAMED: Final = re.compile(rb"\0(?!\{|\0\0\{).{4}|\x03[\0\x05].{16}", re.DOTALL)

_FRAME_BYTES: Final = b"\0\x03"

_SCHEMA_MAJOR_1: Final = re.compile(rb"1(\.[0-9]{1,4})?")
_NAMES: Final = ("customer_id", "merchant_id", "terminal_id", "device_id")

_NEITHER_DIGIT_NOR_END: Final = bytes(set(range(128)) - set(b"0123456789\n"))


def decode_transaction(
    value: bytes | None, headers: Headers, unknown: list[str] | None = None
) -> Transaction:
    """Decode a record of the raw topic; JSON unless its `content-type` says protobuf.

    Args:
        value: Of the record.
        headers: Of the record.
        unknown: Takes names, or numbers, of fields that the schema does not have.

    Raises:
        InvalidTransaction: It cannot be read as a transaction of schema version 1.

    >>> decode_transaction(b'{"bank_id": "b"}', []).bank_id
    'b'
    """
    content_type = _check_headers(headers) if headers else JSON
    if not value:
        reason = RejectReason.TOMBSTONE if value is None else RejectReason.EMPTY
        raise InvalidTransaction(reason, "expected a transaction")
    if len(value) > MAX_VALUE_BYTES:
        msg = f"the value has {len(value)} bytes, at most {MAX_VALUE_BYTES} are read"
        raise InvalidTransaction(RejectReason.TOO_LARGE, msg)
    if value[0] in _FRAME_BYTES and _FRAMED.match(value):
        msg = "the first bytes name a schema of a registry: send the value without, by a plain"
        raise InvalidTransaction(RejectReason.REGISTRY_FRAMED, f"{msg} serialiser of bytes or text")
    return DECODERS[content_type](value, unknown)


def _check_headers(headers: Headers) -> bytes:
    """Check what the headers say about the value; return its content type."""
    room = MAX_HEADER_BYTES if len(headers) <= MAX_HEADERS else 0
    for name, content in headers:
        room -= len(name) + len(content or b"")
        if room < 0:
            raise InvalidTransaction(RejectReason.HEADERS, RejectReason.HEADERS.text)
        if name == MESSAGE_TYPE and content != b"fraudstream.v1.Transaction":
            msg = "message-type: expected fraudstream.v1.Transaction"
            raise InvalidTransaction(RejectReason.SCHEMA_MISMATCH, msg)
        if name == SCHEMA_VERSION and not _SCHEMA_MAJOR_1.fullmatch(content or b""):
            msg = "schema-version: expected major version 1"
            raise InvalidTransaction(RejectReason.SCHEMA_UNSUPPORTED, msg)
    content_type = content_type_of(headers)
    if content_type not in DECODERS:
        msg = f"content-type: expected one of {', '.join(name.decode() for name in DECODERS)}"
        raise InvalidTransaction(RejectReason.CONTENT_TYPE, msg)
    return content_type


def validate_transaction(
    transaction: Transaction, append_time_ms: int, bounds: TimeBounds = USUAL_BOUNDS
) -> None:
    """Check every field, and bring names and the address into their one spelling.

    Args:
        transaction: As the sender gave it; names and address may be changed to their one spelling.
        append_time_ms: When the log took it, or now at the gRPC door.
        bounds: How far event time may be from that.

    Raises:
        InvalidTransaction: The first fault found, in a fixed order.
        LateTransaction: Nothing is wrong with it but that it is older than the lateness bound.
    """
    _check_ids(transaction)
    _check_card(transaction)
    _check_amount(transaction)
    _check_codes(transaction)
    _check_location(transaction)
    _check_time(transaction, append_time_ms, bounds)


def canonicalise(transaction: Transaction, tokeniser: Tokeniser, rates: RateTable) -> None:
    """Put the token in the PAN's place, and add the amount in the reference currency.

    Args:
        transaction: A valid one; changed in place, because the copy would cost more than the rest.
        tokeniser: Makes the token, and says under which keys others may.
        rates: Gives the amount in the reference currency and the version that goes with it.

    Raises:
        InvalidTransaction: The table has no rate, the amount is out of range, or a token is under
            a key that nobody named.
    """
    transaction.amount_reference_minor = rates.reference_minor(
        transaction.amount_minor, transaction.currency, transaction.event_time_ms
    )
    transaction.rate_table_version = rates.version
    if transaction.pan:
        # Setting one member of the oneof clears the other.
        transaction.card_token = tokeniser.token_of(transaction.bank_id, transaction.pan)
    else:
        tokeniser.check(transaction.card_token)


def _check_ids(transaction: Transaction) -> None:
    if not BANK.fullmatch(transaction.bank_id):
        raise InvalidTransaction(RejectReason.BANK_INVALID, RejectReason.BANK_INVALID.text)
    number = transaction.transaction_id
    if (
        not 0 < len(number) <= MAX_NAME
        or not (number.isascii() and number.isprintable())
        or number[0] == " "
        or number[-1] == " "
    ):
        raise InvalidTransaction(RejectReason.ID_INVALID, RejectReason.ID_INVALID.text)
    for name in _NAMES:
        text = getattr(transaction, name)
        if not is_canonical_name(text):
            setattr(transaction, name, canonical_name(name, text))
    if not (transaction.merchant_id or transaction.terminal_id):
        msg = RejectReason.MERCHANT_MISSING.text
        raise InvalidTransaction(RejectReason.MERCHANT_MISSING, msg)


def find_card_data(transaction: Transaction) -> CardData:
    """Return what the ids and names of a transaction hold beside its card.

    >>> find_card_data(Transaction(merchant_id="shop 4" + "0" * 14 + "2")).name
    'PAN'
    """
    return kind_of(_names_of(transaction))


def _names_of(transaction: Transaction) -> str:
    return BREAK.join(
        (
            transaction.bank_id,
            transaction.transaction_id,
            transaction.customer_id,
            transaction.merchant_id,
            transaction.terminal_id,
            transaction.device_id,
        )
    )


def _check_card(transaction: Transaction) -> None:
    pan = transaction.pan
    if transaction.pan_sealed or transaction.pan_key_id:
        msg = "pan_sealed is for the raw topic, where ingest opens it: send pan over TLS"
        raise InvalidTransaction(RejectReason.PAN_SEAL, f"{msg}, or a card_token")
    names = _names_of(transaction)
    found = kind_of(names)
    if found is CardData.SAD:
        msg = "an id or name holds a track, verification value or PIN"
        raise InvalidTransaction(RejectReason.SAD_PRESENT, msg)
    if not pan:
        _check_token(transaction)
    elif pan[0] == "0":
        msg = "pan begins with 0, as no issuer's number does: send it without zeros that fill up"
        raise InvalidTransaction(RejectReason.PAN_INVALID, msg)
    elif not (PAN.fullmatch(pan) and has_luhn_check(pan)):
        raise InvalidTransaction(RejectReason.PAN_INVALID, RejectReason.PAN_INVALID.text)
    if found is CardData.PAN or (pan and _is_in_names(names, pan)):
        msg = "an id or name holds a card number"
        raise InvalidTransaction(RejectReason.PAN_PRESENT, msg)


def _is_in_names(names: str, pan: str) -> bool:
    """Return whether a line holds this card number, whatever stands between its digits."""
    if names.isascii():
        return pan.encode() in names.encode().translate(None, _NEITHER_DIGIT_NOR_END)
    return any(holds_own_number(fold_digits(name), pan) for name in names.split("\n"))


def _check_token(transaction: Transaction) -> None:
    if not transaction.card_token:
        raise InvalidTransaction(RejectReason.CARD_MISSING, RejectReason.CARD_MISSING.text)
    form = CARD_TOKEN.fullmatch(transaction.card_token)
    if form is None or form.group(1) != transaction.bank_id:
        raise InvalidTransaction(RejectReason.CARD_TOKEN, RejectReason.CARD_TOKEN.text)
    _, key_id, mac = transaction.card_token.rsplit(".", 2)
    if kind_of(key_id) or is_number_in_digest(mac):
        raise InvalidTransaction(RejectReason.PAN_PRESENT, "card_token holds a card number")


def _check_amount(transaction: Transaction) -> None:
    kind, amount, currency = transaction.kind, transaction.amount_minor, transaction.currency
    if kind not in KINDS:
        raise InvalidTransaction(RejectReason.ENUM_UNSPECIFIED, "kind is missing or unknown")
    if amount <= 0 and (amount < 0 or kind != VERIFICATION):
        reason = RejectReason.AMOUNT_SIGN if amount < 0 else RejectReason.AMOUNT_ZERO
        raise InvalidTransaction(reason, reason.text)
    if amount > MAX_AMOUNT_MINOR:
        raise InvalidTransaction(RejectReason.AMOUNT_RANGE, RejectReason.AMOUNT_RANGE.text)
    exponent = CURRENCY_EXPONENTS.get(currency)
    if exponent is None:
        raise InvalidTransaction(RejectReason.CURRENCY, currency_fault(currency))
    if transaction.HasField("currency_exponent") and transaction.currency_exponent != exponent:
        msg = f"this currency has {exponent} decimals"
        raise InvalidTransaction(RejectReason.CURRENCY_EXPONENT, msg)
    if transaction.amount_reference_minor or transaction.rate_table_version:
        raise InvalidTransaction(RejectReason.FIELD_RESERVED, RejectReason.FIELD_RESERVED.text)


def _check_codes(transaction: Transaction) -> None:
    if transaction.channel not in CHANNELS:
        raise InvalidTransaction(RejectReason.ENUM_UNSPECIFIED, "channel is missing or unknown")
    if transaction.entry_mode not in ENTRY_MODES:
        raise InvalidTransaction(RejectReason.ENUM_UNSPECIFIED, "entry_mode is unknown")
    mcc = transaction.mcc
    if mcc and not MCC.fullmatch(mcc):
        raise InvalidTransaction(RejectReason.MCC, RejectReason.MCC.text)
    country = transaction.country
    if country and country not in COUNTRIES:
        raise InvalidTransaction(RejectReason.COUNTRY, country_fault(country))


def _check_location(transaction: Transaction) -> None:
    if transaction.ip:
        _check_address(transaction)
    if transaction.HasField("location"):
        location = transaction.location
        # NaN is in no interval, so it fails here too.
        if not (abs(location.latitude) <= LATITUDE and abs(location.longitude) <= LONGITUDE):
            raise InvalidTransaction(RejectReason.LOCATION, RejectReason.LOCATION.text)
    if transaction.utc_offset_minutes not in UTC_OFFSETS_MINUTES:
        raise InvalidTransaction(RejectReason.UTC_OFFSET, RejectReason.UTC_OFFSET.text)


def _check_address(transaction: Transaction) -> None:
    try:
        address = canonical_address(transaction.ip)
    except ValueError as exc:
        is_zoned = "%" in transaction.ip
        msg = "ip: expected an address without zone id" if is_zoned else RejectReason.IP.text
        raise InvalidTransaction(RejectReason.IP, msg) from exc
    if is_card_in_address(address):
        raise InvalidTransaction(RejectReason.PAN_PRESENT, "ip holds a card number")
    if address != transaction.ip:
        transaction.ip = address


def _check_time(transaction: Transaction, append_time_ms: int, bounds: TimeBounds) -> None:
    event_time_ms = transaction.event_time_ms
    fault = fault_of_time(event_time_ms, append_time_ms, bounds)
    if fault:
        raise InvalidTransaction(fault, text_of_time(fault, event_time_ms))
    if event_time_ms < append_time_ms - bounds.lateness_ms:
        msg = f"older than {bounds.lateness_ms} ms on arrival"
        raise LateTransaction(msg)
