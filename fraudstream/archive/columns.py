"""The canonical columns: Arrow schemas of what is archived.

A Parquet file of one's own needs only some of the accepted columns: `check_canonical` says which.
The columns are explained in docs/data.md, which a test holds against this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.names import words_of
from fraudstream.v1.decision_pb2 import Action, StandInCause
from fraudstream.v1.label_pb2 import Disposition, LabelSource
from fraudstream.v1.transaction_pb2 import Channel, EntryMode, TransactionKind

TEXT: Final = pa.string()
# A text of which few different ones exist: kept once, with a number in each row.
CODE: Final = pa.dictionary(pa.int32(), pa.string())
WHOLE: Final = pa.int64()
REAL: Final = pa.float64()
TIME: Final = pa.timestamp("ms", tz="UTC")

NEEDED: Final = "needed"
NULL: Final = "null"


@dataclass(frozen=True, slots=True)
class Column:
    """One canonical column of accepted transactions.

    Attributes:
        name: Its name.
        type: Its Arrow type in the archive.
        unit: Unit or form.
        default: What stands in a file of one's own that lacks it; `NEEDED` where nothing can.
    """

    name: str
    type: pa.DataType
    unit: str
    default: str


AMOUNT_REFERENCE: Final = "amount_reference_minor"

ACCEPTED_COLUMNS: Final = (
    Column("bank_id", CODE, "the bank's id", "`bank`"),
    Column("transaction_id", TEXT, "the bank's id of it, unique for one card", NEEDED),
    Column("card_token", TEXT, "any id of the card, never its number", NEEDED),
    Column("kind", CODE, "`purchase`, `refund`, `reversal`, `verification`", "`purchase`"),
    Column("customer_id", TEXT, "id", NULL),
    Column("merchant_id", TEXT, "id", NULL),
    Column("terminal_id", TEXT, "id", NULL),
    Column("mcc", CODE, "four digits, ISO 18245", NULL),
    Column("amount_minor", WHOLE, "minor units of `currency`", "`amount_reference_minor`"),
    Column("currency", CODE, "ISO 4217 alphabetic", "the reference currency"),
    Column(
        AMOUNT_REFERENCE,
        WHOLE,
        "minor units of the reference currency",
        "`amount_minor`, where `currency` is there and is the reference currency, or a rate table"
        " converts it; else needed",
    ),
    Column("event_time_ms", WHOLE, "epoch milliseconds, UTC", NEEDED),
    Column(
        "arrival_time_ms", WHOLE, "epoch milliseconds, UTC: the log record's", "`event_time_ms`"
    ),
    Column("utc_offset_minutes", pa.int32(), "minutes east of UTC", "0"),
    Column("channel", CODE, "`pos`, `ecommerce`, `atm`, `moto`, `recurring`", NULL),
    Column("entry_mode", CODE, "`chip`, `contactless`, `magstripe`, `manual`, `stored`", NULL),
    Column("country", CODE, "ISO 3166-1 alpha-2, the merchant's", NULL),
    Column("device_id", TEXT, "id", NULL),
    Column("ip", TEXT, "IPv4 or IPv6 address", NULL),
    Column("latitude", REAL, "degrees north", NULL),
    Column("longitude", REAL, "degrees east", NULL),
    Column("log_partition", pa.int32(), "partition of `transactions.accepted.v1`", "0"),
    Column("log_offset", WHOLE, "offset in the partition", "the row's index in the file"),
)

ACCEPTED_SCHEMA: Final = pa.schema([(column.name, column.type) for column in ACCEPTED_COLUMNS])

_ARRIVAL: Final = [
    ("arrival_time_ms", WHOLE),
    ("log_partition", pa.int32()),
    ("log_offset", WHOLE),
]

# `event_timestamp` and `created_timestamp` are what Feast asks of an offline source. Each feature
# is a column too, besides `vector`: null where the decision was made with another feature set.
DECISION_SCHEMA: Final = pa.schema(
    [
        ("decision_id", TEXT),
        ("bank_id", CODE),
        ("transaction_id", TEXT),
        ("card_token", TEXT),
        ("digest", pa.binary()),
        ("action", CODE),
        ("score", REAL),
        ("raw_score", REAL),
        ("reason_codes", pa.list_(TEXT)),
        ("model_hash", CODE),
        ("rule_set_hash", CODE),
        ("feature_set_hash", CODE),
        ("sequence_hash", CODE),
        ("accepted_topic_id", pa.binary()),
        ("accepted_partition", pa.int32()),
        ("accepted_offset", WHOLE),
        ("applied_offset", WHOLE),
        ("shared_stale", pa.bool_()),
        ("cold_start", pa.bool_()),
        ("degraded", pa.bool_()),
        ("stand_in", pa.bool_()),
        ("stand_in_cause", CODE),
        ("trace_id", TEXT),
        ("asked_by", CODE),
        ("engine_version", CODE),
        ("cpu_class", CODE),
        ("batch_bucket", pa.int32()),
        ("event_time_ms", WHOLE),
        *_ARRIVAL,
        ("event_timestamp", TIME),
        ("created_timestamp", TIME),
        ("vector", pa.binary()),
        ("sequence", pa.binary()),
        ("message", pa.binary()),
        *((name, pa.float32()) for name in FEATURE_NAMES),
    ]
)

SHADOW_SCHEMA: Final = pa.schema(
    [
        ("decision_id", TEXT),
        ("bank_id", CODE),
        ("transaction_id", TEXT),
        ("card_token", TEXT),
        ("event_time_ms", WHOLE),
        ("model_hash", CODE),
        ("score", REAL),
        ("raw_score", REAL),
        ("action", CODE),
        ("engine_version", CODE),
        ("cpu_class", CODE),
        ("batch_bucket", pa.int32()),
        *_ARRIVAL,
    ]
)

LABEL_SCHEMA: Final = pa.schema(
    [
        ("label_id", TEXT),
        ("bank_id", CODE),
        ("transaction_id", TEXT),
        ("card_token", TEXT),
        ("event_time_ms", WHOLE),
        ("disposition", CODE),
        ("source", CODE),
        ("customer_id", TEXT),
        ("merchant_id", TEXT),
        ("terminal_id", TEXT),
        ("device_id", TEXT),
        ("ip", TEXT),
        ("analyst", CODE),
        ("settled_at_ms", WHOLE),
        *_ARRIVAL,
    ]
)


ENUM_COLUMNS: Final[Mapping[str, Mapping[int, str]]] = {
    "kind": words_of(TransactionKind),
    "channel": words_of(Channel),
    "entry_mode": words_of(EntryMode),
    "action": words_of(Action),
    "stand_in_cause": words_of(StandInCause),
    "disposition": words_of(Disposition),
    "source": words_of(LabelSource),
}
"""Names of each enum column by the enum's numbers; an unspecified one is null."""


def enum_numbers(name: str, column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """Return the numbers of an enum column, int32 [N]; 0 where it is null.

    Args:
        name: Of the column, one of `ENUM_COLUMNS`.
        column: Its names, plain or dictionary-encoded.

    Raises:
        InvalidSettings: It holds a name that the enum does not have.

    >>> enum_numbers("kind", pa.chunked_array([["purchase", None, "reversal"]])).tolist()
    [1, 0, 3]
    """
    numbers = {text: number for number, text in ENUM_COLUMNS[name].items()}
    encoded = column.cast(TEXT).combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    for text in found:
        if text not in numbers:
            msg = f"column {name}: expected one of {', '.join(numbers)}, found {text!r}"
            raise InvalidSettings(msg)
    by_index: npt.NDArray[np.int32] = np.array([*(numbers[text] for text in found), 0], np.int32)
    indices: npt.NDArray[np.int32] = encoded.indices.fill_null(len(found)).to_numpy()
    return by_index[indices]


def check_canonical(schema: pa.Schema) -> None:
    """Check that a file's columns are canonical ones, as far as it has them.

    A text may be plain or dictionary-encoded, a whole number of any width; other columns are free.

    Raises:
        InvalidSettings: A needed column is missing or one has another type; it says which.

    >>> needed = [("card_token", TEXT), ("transaction_id", TEXT), ("event_time_ms", WHOLE)]
    >>> check_canonical(pa.schema([*needed, ("amount_reference_minor", WHOLE)]))
    """
    names = set(schema.names)
    for column in ACCEPTED_COLUMNS:
        if column.name in names:
            _check_column(column, schema)
        elif column.default == NEEDED:
            _raise_missing(column.name, f"{_kind_of(column.type)}, {column.unit}", schema)
    if AMOUNT_REFERENCE not in names and not {"amount_minor", "currency"} <= names:
        _raise_missing(AMOUNT_REFERENCE, "it, or amount_minor with currency", schema)


def _check_column(column: Column, schema: pa.Schema) -> None:
    fields = [field for field in schema if field.name == column.name]
    if len(fields) > 1:
        raise InvalidSettings(f"column {column.name} is there {len(fields)} times, expected once")
    found = fields[0].type
    if pa.types.is_null(found) and column.default != NEEDED:
        return  # a column in which everything is missing
    if _kind_of(found) != _kind_of(column.type):
        msg = (
            f"column {column.name}: expected {_kind_of(column.type)} ({column.unit}), found {found}"
        )
        raise InvalidSettings(msg)


def _raise_missing(name: str, expected: str, schema: pa.Schema) -> None:
    msg = (
        f"column {name} is missing: expected {expected}; found {', '.join(schema.names) or 'none'}."
        " docs/data.md lists the canonical columns"
    )
    raise InvalidSettings(msg)


def _kind_of(found: pa.DataType) -> str:
    """Return what a type is to a reader: a text, a whole number, a number, or itself."""
    content = found.value_type if pa.types.is_dictionary(found) else found
    is_text = pa.types.is_string(content) or pa.types.is_large_string(content)
    if is_text or pa.types.is_string_view(content):
        return "text"
    if pa.types.is_integer(content):
        return "whole numbers"
    if pa.types.is_floating(content):
        return "numbers"
    return str(found)
