"""The canonical transaction: decoding a record, one reason for each fault, the token for the PAN.

The same checks stand at both doors: `decode_transaction` reads a record of the raw topic, the
gRPC door has a message already; both then call `validate_transaction` and `canonicalise`. No
message of an error holds a value of the record.

Budget: 25 µs for a good JSON record, all in.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from fraudstream.errors import InvalidTransaction, LateTransaction
from fraudstream.iso_codes import COUNTRIES, CURRENCY_EXPONENTS
from fraudstream.money import MAX_AMOUNT_MINOR, RateTable
from fraudstream.privacy import CARD_TOKEN, Tokeniser, has_luhn_check, holds_number
from fraudstream.reject_reasons import RejectReason
from fraudstream.transaction_json import decode_json
from fraudstream.v1.transaction_pb2 import Channel, EntryMode, Transaction, TransactionKind

Headers = Sequence[tuple[str, bytes]]

CONTENT_TYPE: Final = "content-type"
JSON: Final = b"application/json"
PROTOBUF: Final = b"application/x-protobuf"
MESSAGE_TYPE: Final = "message-type"
SCHEMA_VERSION: Final = "schema-version"

MAX_VALUE_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 32
MAX_HEADER_BYTES: Final = 8 * 1024
_MAX_TEXT: Final = 64
_MAX_TEXT_BYTES: Final = 128

# 2000-01-01 and 2100-01-01: seconds lie below, microseconds above.
_TIMES_MS: Final = range(946_684_800_000, 4_102_444_800_000)
# UTC-12 to UTC+14, the clocks in use.
_OFFSETS: Final = range(-720, 841)

_BANK: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_MCC: Final = re.compile(r"[0-9]{4}")
_PAN: Final = re.compile(r"[0-9]{12,19}")
_SCHEMA_MAJOR_1: Final = re.compile(rb"1(\.[0-9]{1,4})?")
_NAMES: Final = ("customer_id", "merchant_id", "terminal_id", "device_id")

_NEITHER_DIGIT_NOR_END: Final = bytes(set(range(128)) - set(b"0123456789\n"))

_KINDS: Final = frozenset(TransactionKind.values()) - {0}
_CHANNELS: Final = frozenset(Channel.values()) - {0}
_ENTRY_MODES: Final = frozenset(EntryMode.values())
_VERIFICATION: Final = TransactionKind.TRANSACTION_KIND_VERIFICATION


# The longest lateness bound that may be set. A late copy must still meet the decision record of its
# first one, after the longest tolerated outage too (`state_store.OUTAGE_LONGEST_S`).
LATENESS_LONGEST_MS: Final = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """How far event time may be from append time.

    Attributes:
        lateness_ms: Older ones are late: archived, not decided.
        future_ms: Younger ones are refused; clocks differ a little.
    """

    lateness_ms: int = LATENESS_LONGEST_MS
    future_ms: int = 5 * 60_000


def decode_transaction(value: bytes | None, headers: Headers) -> Transaction:
    """Decode a record of the raw topic; JSON unless its `content-type` says protobuf.

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
    if content_type == JSON:
        return decode_json(value)
    try:
        transaction = Transaction.FromString(value)
    except DecodeError as exc:
        msg = "not a protobuf message fraudstream.v1.Transaction"
        raise InvalidTransaction(RejectReason.DECODE, msg) from exc
    # A later minor version may have more fields; what was not looked at goes no further.
    transaction.DiscardUnknownFields()
    return transaction


def _check_headers(headers: Headers) -> bytes:
    """Check what the headers say about the value; return its content type."""
    content_type = JSON
    room = MAX_HEADER_BYTES if len(headers) <= MAX_HEADERS else 0
    for name, content in headers:
        room -= len(name) + len(content or b"")
        if room < 0:
            raise InvalidTransaction(RejectReason.HEADERS, RejectReason.HEADERS.text)
        if name == CONTENT_TYPE:
            content_type = (content or b"").split(b";")[0].strip().lower()
        elif name == MESSAGE_TYPE and content != b"fraudstream.v1.Transaction":
            msg = "message-type: expected fraudstream.v1.Transaction"
            raise InvalidTransaction(RejectReason.SCHEMA_MISMATCH, msg)
        elif name == SCHEMA_VERSION and not _SCHEMA_MAJOR_1.fullmatch(content or b""):
            msg = "schema-version: expected major version 1"
            raise InvalidTransaction(RejectReason.SCHEMA_UNSUPPORTED, msg)
    if content_type not in (JSON, PROTOBUF):
        msg = "content-type: expected application/json or application/x-protobuf"
        raise InvalidTransaction(RejectReason.CONTENT_TYPE, msg)
    return content_type


def validate_transaction(
    transaction: Transaction, append_time_ms: int, bounds: TimeBounds = TimeBounds()
) -> None:
    """Check every field, and bring names of other scripts into their normal form (NFKC).

    Args:
        transaction: As the sender gave it; its names may be changed to their normal form.
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
    _check_place(transaction)
    _check_time(transaction, append_time_ms, bounds)


def canonicalise(transaction: Transaction, tokeniser: Tokeniser, rates: RateTable) -> None:
    """Put the token in the PAN's place, and add the amount in the reference currency.

    Args:
        transaction: A valid one; changed in place, because the copy would cost more than the rest.
        tokeniser: Makes the token.
        rates: Gives the amount in the reference currency and the version that goes with it.

    Raises:
        InvalidTransaction: The table has no rate, or the amount is out of range.
    """
    transaction.amount_reference_minor = rates.reference_minor(
        transaction.amount_minor, transaction.currency, transaction.event_time_ms
    )
    transaction.rate_table_version = rates.version
    if transaction.pan:
        # Setting one member of the oneof clears the other.
        transaction.card_token = tokeniser.token_of(transaction.bank_id, transaction.pan)


def _check_ids(transaction: Transaction) -> None:
    if not _BANK.fullmatch(transaction.bank_id):
        raise InvalidTransaction(RejectReason.BANK_INVALID, RejectReason.BANK_INVALID.text)
    number = transaction.transaction_id
    if (
        not 0 < len(number) <= _MAX_TEXT
        or not (number.isascii() and number.isprintable())
        or number[0] == " "
        or number[-1] == " "
    ):
        raise InvalidTransaction(RejectReason.ID_INVALID, RejectReason.ID_INVALID.text)
    for name in _NAMES:
        text = getattr(transaction, name)
        if text and not (len(text) <= _MAX_TEXT and text.isascii() and text.isprintable()):
            setattr(transaction, name, _normal_name(name, text))
    if not (transaction.merchant_id or transaction.terminal_id):
        msg = RejectReason.MERCHANT_MISSING.text
        raise InvalidTransaction(RejectReason.MERCHANT_MISSING, msg)


def _normal_name(name: str, text: str) -> str:
    """Return a name in normal form, without the marks that only change how it is shown."""
    if len(text) > 4 * _MAX_TEXT:
        raise InvalidTransaction(RejectReason.FIELD_TOO_LONG, f"{name}: over {_MAX_TEXT}")
    if any(unicodedata.category(mark) == "Cc" for mark in text):
        reason = RejectReason.ENCODING if "\0" in text else RejectReason.CONTROL_CHARACTER
        raise InvalidTransaction(reason, f"{name}: a control character")
    folded = "".join(
        mark for mark in unicodedata.normalize("NFKC", text) if unicodedata.category(mark) != "Cf"
    ).strip()
    if len(folded) > _MAX_TEXT or len(folded.encode()) > _MAX_TEXT_BYTES:
        msg = f"{name}: over {_MAX_TEXT} characters or {_MAX_TEXT_BYTES} bytes"
        raise InvalidTransaction(RejectReason.FIELD_TOO_LONG, msg)
    return folded


def _check_card(transaction: Transaction) -> None:
    pan = transaction.pan
    if not pan:
        _check_token(transaction)
        return
    if not (_PAN.fullmatch(pan) and has_luhn_check(pan)):
        raise InvalidTransaction(RejectReason.PAN_INVALID, RejectReason.PAN_INVALID.text)
    if _is_in_names(transaction, pan):
        msg = "an id or name holds the card number"
        raise InvalidTransaction(RejectReason.PAN_PRESENT, msg)


def _is_in_names(transaction: Transaction, pan: str) -> bool:
    """Say whether any id or name holds this card number, whatever stands between its digits."""
    names = (
        f"{transaction.bank_id}\n{transaction.transaction_id}\n{transaction.customer_id}\n"
        f"{transaction.merchant_id}\n{transaction.terminal_id}\n{transaction.device_id}"
    )
    if names.isascii():
        return pan.encode() in names.encode().translate(None, _NEITHER_DIGIT_NOR_END)
    return any(holds_number(name, pan) for name in names.split("\n"))


def _check_token(transaction: Transaction) -> None:
    if not transaction.card_token:
        raise InvalidTransaction(RejectReason.CARD_MISSING, RejectReason.CARD_MISSING.text)
    form = CARD_TOKEN.fullmatch(transaction.card_token)
    if form is None or form.group(1) != transaction.bank_id:
        raise InvalidTransaction(RejectReason.CARD_TOKEN, RejectReason.CARD_TOKEN.text)


def _check_amount(transaction: Transaction) -> None:
    kind, amount, currency = transaction.kind, transaction.amount_minor, transaction.currency
    if kind not in _KINDS:
        raise InvalidTransaction(RejectReason.ENUM_UNSPECIFIED, "kind is missing or unknown")
    if amount <= 0 and (amount < 0 or kind != _VERIFICATION):
        reason = RejectReason.AMOUNT_SIGN if amount < 0 else RejectReason.AMOUNT_ZERO
        raise InvalidTransaction(reason, reason.text)
    if amount > MAX_AMOUNT_MINOR:
        raise InvalidTransaction(RejectReason.AMOUNT_RANGE, RejectReason.AMOUNT_RANGE.text)
    exponent = CURRENCY_EXPONENTS.get(currency)
    if exponent is None:
        raise InvalidTransaction(RejectReason.CURRENCY, RejectReason.CURRENCY.text)
    if transaction.HasField("currency_exponent") and transaction.currency_exponent != exponent:
        msg = f"this currency has {exponent} decimals"
        raise InvalidTransaction(RejectReason.CURRENCY_EXPONENT, msg)
    if transaction.amount_reference_minor or transaction.rate_table_version:
        raise InvalidTransaction(RejectReason.FIELD_RESERVED, RejectReason.FIELD_RESERVED.text)


def _check_codes(transaction: Transaction) -> None:
    if transaction.channel not in _CHANNELS:
        raise InvalidTransaction(RejectReason.ENUM_UNSPECIFIED, "channel is missing or unknown")
    if transaction.entry_mode not in _ENTRY_MODES:
        raise InvalidTransaction(RejectReason.ENUM_UNSPECIFIED, "entry_mode is unknown")
    mcc = transaction.mcc
    if mcc and not _MCC.fullmatch(mcc):
        raise InvalidTransaction(RejectReason.MCC, RejectReason.MCC.text)
    country = transaction.country
    if country and country not in COUNTRIES:
        raise InvalidTransaction(RejectReason.COUNTRY, RejectReason.COUNTRY.text)


def _check_place(transaction: Transaction) -> None:
    if transaction.ip and not _is_address(transaction.ip):
        raise InvalidTransaction(RejectReason.IP, RejectReason.IP.text)
    if transaction.HasField("location"):
        place = transaction.location
        # NaN is in no interval, so it fails here too.
        if not (-90 <= place.latitude <= 90 and -180 <= place.longitude <= 180):
            raise InvalidTransaction(RejectReason.LOCATION, RejectReason.LOCATION.text)
    if transaction.utc_offset_minutes not in _OFFSETS:
        raise InvalidTransaction(RejectReason.UTC_OFFSET, RejectReason.UTC_OFFSET.text)


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def fault_of_time(
    event_time_ms: int, append_time_ms: int, bounds: TimeBounds
) -> RejectReason | None:
    """Return why an event time cannot be right, None where it can; a late one can.

    >>> fault_of_time(1_700_000_360_000, 1_700_000_000_000, TimeBounds()).value
    'TIME_FUTURE'
    """
    if event_time_ms not in _TIMES_MS:
        return RejectReason.TIME_INVALID
    is_future = event_time_ms > append_time_ms + bounds.future_ms
    return RejectReason.TIME_FUTURE if is_future else None


def _check_time(transaction: Transaction, append_time_ms: int, bounds: TimeBounds) -> None:
    event_time_ms = transaction.event_time_ms
    fault = fault_of_time(event_time_ms, append_time_ms, bounds)
    if fault:
        raise InvalidTransaction(fault, fault.text)
    if event_time_ms < append_time_ms - bounds.lateness_ms:
        msg = f"older than {bounds.lateness_ms} ms when the log took it"
        raise LateTransaction(msg)
