"""Stored bytes as Feast's rows: a card's last decided vector, and the rows of batch views."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Map, Value

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.stored_values import CARD_VALUE, unpack_values

Row: TypeAlias = tuple[datetime | None, dict[str, Value] | None]
"""Event time and features; twice None for a key without a row."""

WrittenRow: TypeAlias = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""Entity key, features, event time, and when the row was made."""

NO_ROW: Final[Row] = (None, None)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# Event time and creation time, epoch microseconds: what is newer replaces what is older.
_AGE: Final = struct.Struct("<qq")
AGE_BYTES: Final = _AGE.size
_NEVER: Final = (-(2**63), -(2**63))


def card_row(stored: bytes | None, names: Sequence[str]) -> Row:
    """Return a card's last decided vector at its event time; a missing value stays unset.

    >>> card_row(None, ["amount"])
    (None, None)
    """
    value = unpack_values([stored], CARD_VALUE)[0]
    decided_ms = int(value["decided_ms"])
    if decided_ms == 0:  # nothing stored, or damaged: the hot path takes both for an empty state
        return NO_ROW
    vector = dict(zip(FEATURE_NAMES, value["vector"].tolist(), strict=True))
    features = {
        name: Value() if vector[name] != vector[name] else Value(float_val=vector[name])
        for name in names
    }
    return _EPOCH + decided_ms * 1_000 * _MICROSECOND, features


def pack_batch_row(features: Mapping[str, Value], age: tuple[int, int]) -> bytes:
    """Return a batch view's row as bytes.

    >>> batch_row(pack_batch_row({"share": Value(float_val=0.5)}, (1, 1)), ["share"])[0].microsecond
    1
    """
    return _AGE.pack(*age) + Map(val=features).SerializeToString(deterministic=True)


def batch_row(stored: bytes | None, names: Sequence[str]) -> Row:
    """Return a stored row of a batch view; a feature that it lacks stays unset.

    >>> batch_row(None, ["share"])
    (None, None)
    """
    if stored is None:
        return NO_ROW
    features = Map.FromString(stored[AGE_BYTES:]).val
    found = {name: features[name] if name in features else Value() for name in names}
    return _EPOCH + age_of(stored)[0] * _MICROSECOND, found


def age_of(stored: bytes) -> tuple[int, int]:
    """Return event and creation time of a stored row, epoch microseconds; oldest for none.

    >>> age_of(b"") < age_of(pack_batch_row({}, (0, 0)))
    True
    """
    return _AGE.unpack_from(stored) if stored else _NEVER


def newest_rows(keys: Sequence[str], rows: Sequence[WrittenRow]) -> dict[str, bytes]:
    """Return the newest row of each key, packed, whatever the order; of equally old ones the last.

    >>> old, new = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))
    >>> rows = [(EntityKey(), {}, new, None), (EntityKey(), {}, old, None)]
    >>> age_of(newest_rows(["k", "k"], rows)["k"])[0]
    1767312000000000
    """
    newest: dict[str, tuple[tuple[int, int], Mapping[str, Value]]] = {}
    for key, (_, features, event, created) in zip(keys, rows, strict=True):
        age = (_microseconds(event), _microseconds(created or event))
        if key not in newest or age >= newest[key][0]:
            newest[key] = (age, features)
    return {key: pack_batch_row(features, age) for key, (age, features) in newest.items()}


def _microseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND
