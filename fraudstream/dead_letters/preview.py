"""What a dead letter shows of a record whose original is sealed: its fields, values of safe ones.

A value is shown only where its field is on a list and the value has that field's form, so that it
can be nothing else: any other field shows its name, type and length, an unknown one is counted.
Bytes that are neither JSON nor the topic's message show nothing but their size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message

from fraudstream.broker.wire.records import Unreadable
from fraudstream.names import words_of
from fraudstream.topics import ACCEPTED, LABELS_RAW, base_name
from fraudstream.transaction.formats import PROTOBUF, Headers, content_type_of
from fraudstream.transaction.json_form import ENUM_NAMES, JsonValue
from fraudstream.transaction.limits import MCC, TIMES_MS, UTC_OFFSETS_MINUTES
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from fraudstream.v1.label_pb2 import BankLabel, Disposition
from fraudstream.v1.transaction_pb2 import Transaction

_MESSAGES: Final[Mapping[str, type[Message]]] = {
    ACCEPTED.name: AcceptedTransaction,
    LABELS_RAW.name: BankLabel,
}
"""What lies on a topic, if not transactions as banks send them."""

# No card number of 12 or 13 digits is among them: those begin with 4, 5 or 6.
_TIMES_MS: Final = range(TIMES_MS.start, 4_000_000_000_000)
_DISPOSITIONS: Final = frozenset((*Disposition.keys(), *words_of(Disposition).values()))


def _like(form: str) -> Callable[[JsonValue], bool]:
    pattern = re.compile(form, re.ASCII)
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_time(value: JsonValue) -> bool:
    """Return whether a number, or its digits as Protobuf's JSON writes one, is a time."""
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and len(value) < 14 and int(value) in _TIMES_MS
    return type(value) is int and value in _TIMES_MS


def _within(numbers: range) -> Callable[[JsonValue], bool]:
    return lambda value: type(value) is int and value in numbers


def _word_of(words: Collection[str]) -> Callable[[JsonValue], bool]:
    is_number = _within(range(10))
    return lambda value: is_number(value) or (isinstance(value, str) and value in words)


_SAFE: Final[Mapping[str, Callable[[JsonValue], bool]]] = {
    "mcc": _like(MCC.pattern),
    "currency": _like("[A-Za-z]{3}"),
    "country": _like("[A-Za-z]{2}"),
    "event_time_ms": _is_time,
    "settled_at_ms": _is_time,
    "utc_offset_minutes": _within(UTC_OFFSETS_MINUTES),
    "currency_exponent": _within(range(10)),
    "disposition": _word_of(_DISPOSITIONS),
    **{field: _word_of((*short, *full)) for field, (short, full) in ENUM_NAMES.items()},
}
"""Fields whose values are shown, each with what its value must be for that."""

_KNOWN: Final = {
    name: field.name
    for message in (Transaction, BankLabel)
    for field in message.DESCRIPTOR.fields
    for name in (field.name, field.json_name)
}
_TYPES: Final = ((bool, "boolean"), (str, "string"), (dict, "object"), (list, "list"))


def traits_of(value: bytes) -> dict[str, int]:
    """Return what can be told of any bytes: how many.

    No hash: who knows the rest of a record tries the few values of a PIN or CVV against it.

    >>> traits_of(b'{"cvv":"000"}')
    {'value_bytes': 13}
    """
    return {"value_bytes": value.size if isinstance(value, Unreadable) else len(value)}


def preview_of(topic: str, headers: Headers, value: bytes) -> Mapping[str, object]:
    """Return what a letter shows of a value: a `preview`, or its size and where reading ended.

    Cost: of one parse, whatever the value is; callers bound its length.

    >>> shown = preview_of("raw", [], b'{"mcc":"5411","pan":"4000"}')
    >>> shown["preview"]
    {'mcc': '5411', 'pan': '<string, 4>'}
    >>> preview_of("raw", [], b'{"mcc"')["unreadable_from"]
    6
    """
    kind = _MESSAGES.get(base_name(topic), Transaction)
    if kind is AcceptedTransaction or content_type_of(headers) == PROTOBUF:
        fields = _message_fields(kind, value)
        return traits_of(value) if fields is None else {"preview": _shown(fields)}
    try:
        parsed: JsonValue = json.loads(value.decode())
    except UnicodeDecodeError:
        return traits_of(value)
    except json.JSONDecodeError as exc:
        return {**traits_of(value), "unreadable_from": exc.pos}
    except (RecursionError, ValueError):  # too deep, or a number of thousands of digits
        return traits_of(value)
    return {"preview": _shown(parsed) if isinstance(parsed, dict) else _form_of(parsed)}


def _message_fields(kind: type[Message], value: bytes) -> dict[str, JsonValue] | None:
    try:
        message = kind.FromString(value)
    except DecodeError:
        return None
    if isinstance(message, AcceptedTransaction):
        message = message.transaction
    # NaN is a text there, and an enum's unknown number stays one.
    fields: dict[str, JsonValue] = MessageToDict(message, preserving_proto_field_name=True)
    return fields


def _shown(fields: Mapping[str, JsonValue]) -> dict[str, str | int]:
    shown: dict[str, str | int] = {}
    unknown = 0
    for name, value in fields.items():
        field = _KNOWN.get(name)
        if field is None:
            unknown += 1
            continue
        is_safe = _SAFE.get(field)
        if is_safe is not None and is_safe(value) and isinstance(value, str | int):
            shown[field] = value
        else:
            shown[field] = _form_of(value)
    if unknown:
        shown["<unknown fields>"] = unknown
    return shown


def _form_of(value: JsonValue) -> str:
    """Return a value's type, and its length: of characters, digits or elements."""
    if value is None:
        return "<null>"
    name = next((name for kind, name in _TYPES if isinstance(value, kind)), "number")
    if name == "boolean":
        return "<boolean>"
    length = len(value) if isinstance(value, Sequence | Mapping) else len(str(value))
    return f"<{name}, {length}>"
