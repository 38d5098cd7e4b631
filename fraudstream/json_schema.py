"""The JSON Schema of a transaction, made from the message and what `transaction.py` checks.

`python -m fraudstream.json_schema` writes `docs/schemas/transaction.v1.json` anew. It reads the
comments of `proto/` by protoc, so it needs the development environment and a source tree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from fraudstream.errors import InvalidSettings
from fraudstream.iso_codes import COUNTRIES, CURRENCY_EXPONENTS
from fraudstream.money import MAX_AMOUNT_MINOR
from fraudstream.transaction_json import ENUM_NAMES, JsonValue
from fraudstream.v1.transaction_pb2 import Transaction

_ROOT: Final = Path(__file__).parent.parent
SCHEMA_PATH: Final = _ROOT / "docs" / "schemas" / "transaction.v1.json"
_PROTO: Final = "fraudstream/v1/transaction.proto"
_MESSAGE_TAG, _FIELD_TAG = 4, 2  # of FileDescriptorProto and DescriptorProto, in a source path

Schema = dict[str, JsonValue]

# Fields that only ingest sets; a record that has one is refused.
_RESERVED: Final = frozenset(("amount_reference_minor", "rate_table_version"))
_NAME: Final[Schema] = {"type": "string", "maxLength": 64}


def _whole(lowest: int, highest: int) -> Schema:
    """Return the schema of a 64-bit number: as one, or by its digits in a text."""
    number: Schema = {"type": "integer", "minimum": lowest, "maximum": highest}
    return {"anyOf": [number, {"type": "string", "pattern": "^-?[0-9]{1,20}$"}]}


def _enum(field: str) -> Schema:
    short, full = ENUM_NAMES[field]
    names: list[JsonValue] = [*short, *full]
    return {"enum": names}


def _fields() -> dict[str, Schema]:
    """Return what is allowed in each field; the checks themselves are in `transaction.py`."""
    return {
        "bank_id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,32}$"},
        "transaction_id": {"type": "string", "pattern": "^[!-~]([ -~]{0,62}[!-~])?$"},
        "pan": {"type": "string", "pattern": "^[0-9]{12,19}$"},
        "card_token": {
            "type": "string",
            "pattern": r"^[A-Za-z0-9_-]{1,32}\.[a-z0-9]{1,16}\.[0-9a-f]{32}$",
        },
        "kind": _enum("kind"),
        "customer_id": _NAME,
        "merchant_id": _NAME,
        "terminal_id": _NAME,
        "mcc": {"type": "string", "pattern": "^([0-9]{4})?$"},
        "amount_minor": _whole(0, MAX_AMOUNT_MINOR),
        "currency": {"enum": [*sorted(CURRENCY_EXPONENTS)]},
        "event_time_ms": _whole(946_684_800_000, 4_102_444_799_999),
        "utc_offset_minutes": {"type": "integer", "minimum": -720, "maximum": 840},
        "channel": _enum("channel"),
        "entry_mode": _enum("entry_mode"),
        "country": {"enum": ["", *sorted(COUNTRIES)]},
        "device_id": _NAME,
        "ip": {"type": "string", "maxLength": 45},
        "location": {
            "type": "object",
            "properties": {
                "latitude": {"type": "number", "minimum": -90, "maximum": 90},
                "longitude": {"type": "number", "minimum": -180, "maximum": 180},
            },
            "required": ["latitude", "longitude"],
            "additionalProperties": False,
        },
        "currency_exponent": {"type": "integer", "minimum": 0, "maximum": 4},
    }


def transaction_schema(comments: Mapping[str, str]) -> Schema:
    """Return the schema of a raw JSON record.

    Args:
        comments: Field name to its comment in the proto file.

    Raises:
        InvalidSettings: The message has a field that this module does not know.
    """
    allowed = _fields()
    names = [field.name for field in Transaction.DESCRIPTOR.fields]
    unknown = set(names) - set(allowed) - _RESERVED
    if unknown:
        raise InvalidSettings(f"say in fraudstream/json_schema.py what is allowed in {unknown}")
    properties: Schema = {
        name: {**({"description": comments[name]} if name in comments else {}), **allowed[name]}
        for name in names
        if name in allowed
    }
    properties |= dict.fromkeys(sorted(_RESERVED), False)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:fraudstream:transaction:v1",
        "title": "Transaction",
        "description": comments[""],
        "type": "object",
        "properties": properties,
        "required": [
            "bank_id",
            "transaction_id",
            "kind",
            "currency",
            "event_time_ms",
            "channel",
        ],
        "oneOf": [{"required": ["pan"]}, {"required": ["card_token"]}],
        "anyOf": [{"required": ["merchant_id"]}, {"required": ["terminal_id"]}],
        "if": {"properties": {"kind": {"enum": _verification_names()}}},
        "else": {
            "required": ["amount_minor"],
            "properties": {"amount_minor": _whole(1, MAX_AMOUNT_MINOR)},
        },
    }


def _verification_names() -> list[JsonValue]:
    return [name for names in ENUM_NAMES["kind"] for name in names if "verif" in name.lower()]


def read_comments() -> dict[str, str]:
    """Return the comments of the message's fields, and its own under the empty name.

    Raises:
        InvalidSettings: protoc or the proto file is not there.
    """
    try:
        from grpc_tools import protoc  # type: ignore[import-untyped]  # ships no types
    except ImportError as exc:
        raise InvalidSettings("grpcio-tools is missing: make .venv/.dev") from exc
    with TemporaryDirectory() as folder:
        path = Path(folder) / "set"
        arguments = ["protoc", f"--proto_path={_ROOT / 'proto'}", "--include_source_info"]
        if protoc.main([*arguments, f"--descriptor_set_out={path}", _PROTO]):
            raise InvalidSettings(f"protoc cannot read {_PROTO}")
        file = FileDescriptorSet.FromString(path.read_bytes()).file[0]
    number = [message.name for message in file.message_type].index("Transaction")
    fields = [field.name for field in file.message_type[number].field]
    comments = {}
    for location in file.source_code_info.location:
        text = " ".join(location.leading_comments.split())
        match list(location.path):
            case [tag, message] if text and (tag, message) == (_MESSAGE_TAG, number):
                comments[""] = text
            case [tag, message, inner, field] if text and (tag, message, inner) == (
                _MESSAGE_TAG,
                number,
                _FIELD_TAG,
            ):
                comments[fields[field]] = text
    return comments


def schema_text() -> str:
    """Return the content of the schema file."""
    return json.dumps(transaction_schema(read_comments()), indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text())
