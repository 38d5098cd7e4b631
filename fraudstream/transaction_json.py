"""The JSON form of a transaction: strict decoding, and encoding.

The form is protobuf's own JSON mapping with the message's field names. An enum goes by its short
lower-case name (`purchase`) or its full one; a 64-bit integer by a number or by its digits in a
string. Nothing is guessed: what has another type is refused with a reason of its own. Fields that
a later version of the schema may add are searched for what must not be there, and dropped.

Budget: 12 µs for a record of 20 fields.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from fraudstream.errors import InvalidTransaction
from fraudstream.privacy import holds_pan, holds_track, is_sensitive_name
from fraudstream.reject_reasons import RejectReason
from fraudstream.v1.transaction_pb2 import Channel, EntryMode, Transaction, TransactionKind

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]
FieldValue = str | int | dict[str, float]

_INT64: Final = range(-(2**63), 2**63)
_INT32: Final = range(-(2**31), 2**31)
_WHOLE: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_COORDINATES: Final = frozenset(("latitude", "longitude"))


def decode_json(value: bytes) -> Transaction:
    """Decode one transaction, without judging its values.

    Raises:
        InvalidTransaction: It is not such a JSON object, or holds what must not be kept.

    >>> decode_json(b'{"bank_id": "b", "kind": "refund"}').kind
    2
    """
    fields = _parse_object(value)
    known: dict[str, FieldValue] = {}
    for name, content in fields.items():
        if name in _TEXTS and type(content) is str:
            known[name] = content
        elif name in _CONVERTERS:
            known[name] = _CONVERTERS[name](name, content)
        else:
            _search_unknown(name, content)
    if "pan" in known and "card_token" in known:
        raise InvalidTransaction(RejectReason.CARD_AMBIGUOUS, "give pan or card_token, not both")
    try:
        return Transaction(**known)  # type: ignore[arg-type]  # each converter gives its field's type
    except UnicodeEncodeError as exc:
        raise InvalidTransaction(RejectReason.ENCODING, "a text holds a lone surrogate") from exc


def encode_json(transaction: Transaction) -> bytes:
    """Encode a transaction so that `decode_json` gives the same one.

    >>> encode_json(Transaction(bank_id="b", kind=TransactionKind.TRANSACTION_KIND_PURCHASE))
    b'{"bank_id":"b","kind":"purchase"}'
    """
    fields: dict[str, JsonValue] = {}
    for field, content in transaction.ListFields():
        enum = _ENUMS.get(field.name)
        if enum is not None:
            fields[field.name] = enum[1].get(content, content)
        elif field.name == "location":
            fields[field.name] = {"latitude": content.latitude, "longitude": content.longitude}
        else:
            fields[field.name] = content
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def _parse_object(value: bytes) -> dict[str, JsonValue]:
    try:
        text = value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidTransaction(RejectReason.ENCODING, "the value is not UTF-8") from exc
    if text.startswith("\ufeff") or "\0" in text:
        raise InvalidTransaction(RejectReason.ENCODING, "a byte order mark or a NUL")
    try:
        fields: JsonValue = _DECODER.decode(text)
    except json.JSONDecodeError as exc:
        if exc.msg.startswith("Invalid control character"):
            msg = f"an unescaped control character at {exc.pos}"
            raise InvalidTransaction(RejectReason.CONTROL_CHARACTER, msg) from exc
        msg = f"not JSON at character {exc.pos}"
        raise InvalidTransaction(RejectReason.DECODE, msg) from exc
    except (RecursionError, ValueError) as exc:
        msg = "nested too deep, or a number of thousands of digits"
        raise InvalidTransaction(RejectReason.DECODE, msg) from exc
    if type(fields) is not dict:
        raise InvalidTransaction(RejectReason.DECODE, "expected one JSON object")
    return fields


def _unique_pairs(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidTransaction(RejectReason.DUP_KEY, "an object names a key twice")
    return fields


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique_pairs)


def _text(name: str, content: JsonValue) -> str:
    if type(content) is not str:
        raise InvalidTransaction(RejectReason.FIELD_TYPE, f"{name}: expected a string")
    return content


def _whole(content: JsonValue, allowed: range) -> int | None:
    """Return a whole number, given as one or by its digits; None for anything else."""
    if type(content) is str and _WHOLE.fullmatch(content):
        content = int(content)
    return content if type(content) is int and content in allowed else None


def _amount(name: str, content: JsonValue) -> int:
    if type(content) is int and content in _INT64:
        return content
    if type(content) is float:
        is_finite = math.isfinite(content) and (content != 0 or math.copysign(1, content) > 0)
        reason = RejectReason.AMOUNT_FRACTION if is_finite else RejectReason.AMOUNT_NOT_FINITE
        raise InvalidTransaction(reason, f"{name}: expected a whole number of minor units")
    if type(content) is int or (type(content) is str and _WHOLE.fullmatch(content)):
        number = _whole(content, _INT64)
        if number is None:
            raise InvalidTransaction(RejectReason.AMOUNT_RANGE, f"{name}: over 64 bits")
        return number
    if type(content) is str:
        reason = _AMOUNT_WORDS.get(content.lower().lstrip("+-"), RejectReason.AMOUNT_FRACTION)
        raise InvalidTransaction(reason, f"{name}: expected a whole number of minor units")
    raise InvalidTransaction(RejectReason.FIELD_TYPE, f"{name}: expected a whole number")


_AMOUNT_WORDS: Final[dict[str, RejectReason]] = dict.fromkeys(
    ("nan", "inf", "infinity", "0.0"), RejectReason.AMOUNT_NOT_FINITE
)


def _time(name: str, content: JsonValue) -> int:
    number = content if type(content) is int and content in _INT64 else _whole(content, _INT64)
    if number is None:
        msg = f"{name}: expected epoch milliseconds, UTC, as a whole number"
        raise InvalidTransaction(RejectReason.TIME_INVALID, msg)
    return number


def _offset(name: str, content: JsonValue) -> int:
    if type(content) is not int or content not in _INT32:
        raise InvalidTransaction(RejectReason.UTC_OFFSET, f"{name}: expected whole minutes")
    return content


def _exponent(name: str, content: JsonValue) -> int:
    if type(content) is not int or not 0 <= content < 2**32:
        msg = f"{name}: expected the number of decimals"
        raise InvalidTransaction(RejectReason.CURRENCY_EXPONENT, msg)
    return content


def _location(name: str, content: JsonValue) -> dict[str, float]:
    if type(content) is not dict or content.keys() != _COORDINATES:
        msg = f"{name}: expected latitude and longitude, nothing else"
        raise InvalidTransaction(RejectReason.LOCATION, msg)
    degrees: dict[str, float] = {}
    for axis, number in content.items():
        # A whole number of hundreds of digits does not fit a float: refused as out of range.
        if type(number) not in (int, float) or not -180 <= number <= 180:  # type: ignore[operator]  # a number
            raise InvalidTransaction(RejectReason.LOCATION, f"{name}: expected degrees")
        degrees[axis] = float(number)  # type: ignore[arg-type]  # a number by the line above
    return degrees


def _names_of(enum: EnumTypeWrapper) -> tuple[dict[str, int], dict[int, str]]:
    """Return the numbers of an enum by short and full name, and the short names."""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    short = {number: name.removeprefix(prefix).lower() for name, number in enum.items() if number}
    full = {name: number for name, number in enum.items() if number}
    return {**full, **{name: number for number, name in short.items()}}, short


_ENUMS: Final = {
    "kind": _names_of(TransactionKind),
    "channel": _names_of(Channel),
    "entry_mode": _names_of(EntryMode),
}


# The short names of each enum's numbers.
ENUM_WORDS: Final = {field: short for field, (_, short) in _ENUMS.items()}
ENUM_NAMES: Final = {
    field: (list(short.values()), [name for name in numbers if name not in short.values()])
    for field, (numbers, short) in _ENUMS.items()
}
"""Names of each enum field: short ones and full ones, without the unspecified one."""


def _enum_number(name: str, content: JsonValue) -> int:
    number = _ENUMS[name][0].get(content) if type(content) is str else None
    if number is None:
        known = ", ".join(_ENUMS[name][1].values())
        raise InvalidTransaction(RejectReason.ENUM_UNSPECIFIED, f"{name}: expected one of {known}")
    return number


def _search_unknown(name: str, content: JsonValue) -> None:
    """Refuse a field that is not in the schema if it holds what must not be kept."""
    if is_sensitive_name(name):
        raise InvalidTransaction(RejectReason.SAD_PRESENT, "a field that must never be sent")
    if isinstance(content, Mapping):
        for inner_name, inner in content.items():
            _search_unknown(inner_name, inner)
    elif isinstance(content, Sequence) and not isinstance(content, str):
        for inner in content:
            _search_unknown("", inner)
    else:
        _search_scalar(name, content)


def _search_scalar(name: str, content: JsonValue) -> None:
    if isinstance(content, float) and not math.isfinite(content):
        raise InvalidTransaction(RejectReason.DECODE, "a number that JSON does not have")
    text = f"{name} {content}"
    if holds_track(text):
        raise InvalidTransaction(RejectReason.SAD_PRESENT, "track data in an unknown field")
    if holds_pan(text):
        raise InvalidTransaction(RejectReason.PAN_PRESENT, "a card number in an unknown field")


def _converter_of(name: str) -> Callable[[str, JsonValue], FieldValue]:
    special: dict[str, Callable[[str, JsonValue], FieldValue]] = {
        "amount_minor": _amount,
        "amount_reference_minor": _amount,
        "event_time_ms": _time,
        "utc_offset_minutes": _offset,
        "currency_exponent": _exponent,
        "location": _location,
        "kind": _enum_number,
        "channel": _enum_number,
        "entry_mode": _enum_number,
    }
    return special.get(name, _text)


_CONVERTERS: Final = {name: _converter_of(name) for name in Transaction.DESCRIPTOR.fields_by_name}
_TEXTS: Final = frozenset(name for name, convert in _CONVERTERS.items() if convert is _text)
