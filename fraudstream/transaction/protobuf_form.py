"""The Protobuf form of a transaction: `fraudstream.v1.Transaction`."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from fraudstream.card_data.detector import CardData, kind_of
from fraudstream.errors import InvalidTransaction
from fraudstream.reject_reasons import RejectReason
from fraudstream.v1.transaction_pb2 import Transaction


def decode_protobuf(value: bytes, unknown: list[str] | None = None) -> Transaction:
    """Decode one transaction, without judging its values.

    Args:
        value: The message.
        unknown: Takes the numbers of fields that the schema does not have.

    Raises:
        InvalidTransaction: It is no such message, or holds what must not be kept.

    >>> decode_protobuf(Transaction(bank_id="b").SerializeToString()).bank_id
    'b'
    """
    try:
        transaction = Transaction.FromString(value)
    except DecodeError as exc:
        msg = "not a protobuf message fraudstream.v1.Transaction"
        raise InvalidTransaction(RejectReason.DECODE, msg) from exc
    if unknown is not None:
        unknown += _numbers_of(UnknownFieldSet(transaction))
    if unknown and kind_of(value) is CardData.SAD:
        msg = "a track, verification value or PIN beside an unknown field"
        raise InvalidTransaction(RejectReason.SAD_PRESENT, msg)
    # A later minor version may have more fields; what was not looked at goes no further.
    transaction.DiscardUnknownFields()
    return transaction


def _numbers_of(fields: UnknownFieldSet) -> list[str]:
    """Return what Protobuf's unknown fields can be called."""
    return [f"field {fields[index].field_number}" for index in range(len(fields))]
