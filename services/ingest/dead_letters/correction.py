"""Corrects the original of a dead letter, and judges the corrected record as ingest would."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from fraudstream.dead_letters.letter import SourceRecord
from fraudstream.errors import InvalidSettings, InvalidTransaction, LateTransaction
from fraudstream.transaction.event_time import TimeBounds
from fraudstream.transaction.formats import CONTENT_TYPE, DECODERS, JSON, content_type_of
from fraudstream.transaction.json_form import JsonValue, encode_json, field_of
from fraudstream.transaction.money import RateTable
from fraudstream.transaction.validate import decode_transaction, validate_transaction
from fraudstream.v1.transaction_pb2 import Transaction
from services.ingest.dead_letters.corrected_pan import CorrectedPans

FIELDS: Final = tuple(field.name for field in Transaction.DESCRIPTOR.fields)


@dataclass(frozen=True, slots=True)
class Correction:
    """What an operator changes of an original.

    Attributes:
        changes: Fields that are set.
        removed: Fields that are taken out.
    """

    changes: Mapping[str, JsonValue] = field(default_factory=dict)
    removed: Collection[str] = ()

    def apply(self, original: SourceRecord) -> bytes:
        """Return the original with fields set and removed, as JSON.

        Raises:
            InvalidSettings: It is no JSON object, or lacks a field that is to be removed.
        """
        fields = _fields_of(original)
        missing = sorted({*self.removed} - {*fields, *map(field_of, fields)})
        if missing:
            raise InvalidSettings(f"--remove {missing[0]}: the original has no such field")
        replaced = {*self.removed, *self.changes}
        kept = {
            name: content
            for name, content in fields.items()
            if name not in replaced and field_of(name) not in replaced
        }
        return json.dumps({**kept, **self.changes}).encode()


def _fields_of(original: SourceRecord) -> dict[str, JsonValue]:
    try:
        fields = json.loads(text_of(original) or b"{}")
    except (InvalidTransaction, ValueError, RecursionError) as exc:
        raise InvalidSettings("the original is no JSON object: give the whole --body") from exc
    if not isinstance(fields, dict):
        raise InvalidSettings("the original is no JSON object: give the whole --body")
    return fields


def text_of(original: SourceRecord) -> bytes:
    """Return an original's value, as JSON whatever its format.

    Raises:
        InvalidTransaction: It is not of the format that its header says.
    """
    value = original.value or b""
    content_type = content_type_of(original.headers)
    if value and content_type != JSON and content_type in DECODERS:
        return encode_json(decode_transaction(value, [(CONTENT_TYPE, content_type)]))
    return value


def check_record(
    value: bytes, append_time_ms: int, bounds: TimeBounds, rates: RateTable, pans: CorrectedPans
) -> Transaction:
    """Judge a JSON record as ingest would, were it appended at a time; return its transaction.

    Raises:
        InvalidTransaction: It would be a dead letter.
        LateTransaction: It would go to the late topic and get no decision.
    """
    transaction = decode_transaction(value, [(CONTENT_TYPE, JSON)])
    pans.open(transaction)
    try:
        validate_transaction(transaction, append_time_ms, bounds)
    except LateTransaction as exc:
        hours = bounds.lateness_ms / 3_600_000
        msg = (
            f"it is older than the lateness bound of {hours:g} hours: it would go to the late"
            " topic and get no decision"
        )
        raise LateTransaction(msg) from exc
    rates.reference_minor(transaction.amount_minor, transaction.currency, transaction.event_time_ms)
    return transaction
