"""The JSON Schema of a transaction, made from the message and the limits that its check holds to.

`python -m fraudstream.tools.transaction_schema` writes `docs/schemas/transaction.v1.json` again. It
reads the comments of `proto/` by protoc, so it needs the development environment and a source tree.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from fraudstream.errors import InvalidSettings
from fraudstream.names import MAX_NAME, word_of
from fraudstream.sealed_pan import MAX_BOX_BYTES
from fraudstream.transaction.card_token import CARD_TOKEN
from fraudstream.transaction.iso_codes import COUNTRIES, CURRENCY_EXPONENTS
from fraudstream.transaction.json_form import ENUM_NAMES, JsonValue
from fraudstream.transaction.limits import (
    BANK,
    LATITUDE,
    LONGITUDE,
    MCC,
    PAN,
    PAN_KEY_ID,
    TIMES_MS,
    TRANSACTION_ID,
    UTC_OFFSETS_MINUTES,
    VERIFICATION,
)
from fraudstream.transaction.money import MAX_AMOUNT_MINOR
from fraudstream.v1.transaction_pb2 import Transaction, TransactionKind

_ROOT: Final = Path(__file__).parents[2]
SCHEMA_PATH: Final = _ROOT / "docs" / "schemas" / "transaction.v1.json"
_PROTO: Final = "fraudstream/v1/transaction.proto"
_MESSAGE_TAG, _FIELD_TAG = 4, 2  # of FileDescriptorProto and DescriptorProto, in a source path

Schema = dict[str, JsonValue]

# Fields that only ingest sets; a record that has one is refused.
_RESERVED: Final = frozenset(("amount_reference_minor", "rate_table_version"))
_NAME: Final[Schema] = {"type": "string", "maxLength": MAX_NAME}


def _whole(lowest: int, highest: int) -> Schema:
    """Return the schema of a whole number: as one, or by its digits in a text."""
    number: Schema = {"type": "integer", "minimum": lowest, "maximum": highest}
    sign = "-?" if lowest < 0 else ""
    digits: Schema = {"type": "string", "pattern": f"^{sign}[0-9]{{1,{len(str(highest))}}}$"}
    return {"anyOf": [number, digits]}


def _text(form: re.Pattern[str]) -> Schema:
    return {"type": "string", "pattern": f"^{form.pattern}$"}


def _enum(field: str) -> Schema:
    short, full = ENUM_NAMES[field]
    names: list[JsonValue] = [*short, *full]
    return {"enum": names}


def _fields() -> dict[str, Schema]:
    """Return what is allowed in each field; the checks themselves are in `validate.py`."""
    box = math.ceil(MAX_BOX_BYTES * 4 / 3)
    return {
        "bank_id": _text(BANK),
        "transaction_id": _text(TRANSACTION_ID),
        "pan": _text(PAN),
        # 48 bytes at least: what a box is without its text.
        "pan_sealed": {"type": "string", "pattern": f"^[A-Za-z0-9+/_-]{{64,{box}}}={{0,2}}$"},
        "pan_key_id": _text(PAN_KEY_ID),
        "card_token": _text(CARD_TOKEN),
        "kind": _enum("kind"),
        "customer_id": _NAME,
        "merchant_id": _NAME,
        "terminal_id": _NAME,
        "mcc": {"type": "string", "pattern": f"^({MCC.pattern})?$"},
        "amount_minor": _whole(0, MAX_AMOUNT_MINOR),
        "currency": {"enum": [*sorted(CURRENCY_EXPONENTS)]},
        "event_time_ms": _whole(TIMES_MS.start, TIMES_MS.stop - 1),
        "utc_offset_minutes": _whole(UTC_OFFSETS_MINUTES.start, UTC_OFFSETS_MINUTES.stop - 1),
        "channel": _enum("channel"),
        "entry_mode": _enum("entry_mode"),
        "country": {"enum": ["", *sorted(COUNTRIES)]},
        "device_id": _NAME,
        "ip": {"type": "string", "maxLength": 45, "pattern": "^[0-9A-Fa-f:.]*$"},
        "location": {
            "type": "object",
            "properties": {
                "latitude": {"type": "number", "minimum": -LATITUDE, "maximum": LATITUDE},
                "longitude": {"type": "number", "minimum": -LONGITUDE, "maximum": LONGITUDE},
            },
            "required": ["latitude", "longitude"],
            "additionalProperties": False,
        },
        "currency_exponent": _whole(0, max(CURRENCY_EXPONENTS.values())),
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
        raise InvalidSettings(
            f"say in fraudstream/tools/transaction_schema.py what is allowed in {unknown}"
        )
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
        "oneOf": [
            {"required": ["pan"]},
            {"required": ["pan_sealed"]},
            {"required": ["card_token"]},
        ],
        "dependentRequired": {"pan_sealed": ["pan_key_id"], "pan_key_id": ["pan_sealed"]},
        "anyOf": [{"required": ["merchant_id"]}, {"required": ["terminal_id"]}],
        "if": {"properties": {"kind": {"enum": _verification_names()}}},
        "else": {
            "required": ["amount_minor"],
            "properties": {"amount_minor": _whole(1, MAX_AMOUNT_MINOR)},
        },
    }


def _verification_names() -> list[JsonValue]:
    return [word_of(TransactionKind, VERIFICATION), TransactionKind.Name(VERIFICATION)]


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
