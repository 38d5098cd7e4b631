"""Messages of the topics behind ingest: what is none of ours costs itself, and is told.

A reader names the kind that it expects. The message comes back only if its form and each of its
fields hold (`fraudstream.bounds`); else the quarantine is told, and the reader goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from fraudstream.bounds.decision import (
    fault_of_accepted,
    fault_of_decision,
    fault_of_rescore,
    fault_of_shadow,
    fault_of_stand_in,
)
from fraudstream.bounds.records import fault_of_alert, fault_of_entity_row, fault_of_label
from fraudstream.broker.quarantine import AnyRecord, report
from fraudstream.reject_reasons import QuarantineReason
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision, ShadowScore
from fraudstream.v1.features_pb2 import EntityRow
from fraudstream.v1.label_pb2 import Label
from fraudstream.v1.rescore_pb2 import Rescore, StandIn

M = TypeVar("M", bound=Message)

# Of each kind: the first field that is none of ours, by the broker's time of its record.
_FAULT_OF: Final[Mapping[type[Message], Callable[[Any, int], str]]] = {
    AcceptedTransaction: fault_of_accepted,
    Decision: fault_of_decision,
    StandIn: fault_of_stand_in,
    Rescore: fault_of_rescore,
    ShadowScore: fault_of_shadow,
    Alert: fault_of_alert,
    Label: fault_of_label,
    EntityRow: fault_of_entity_row,
}


class StampedRecord(AnyRecord, Protocol):
    """A record with the time that the broker gave it."""

    @property
    def timestamp(self) -> int:
        """Epoch milliseconds."""
        ...


class NotOurs(Exception):
    """A record holds nothing that our services write.

    Attributes:
        reason: For the quarantine.
        message: What was expected and found, without any value.
    """

    def __init__(self, reason: QuarantineReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def read_message(kind: type[M], value: bytes | None, appended_ms: int) -> M:
    """Return the message of a value, whose form and fields hold.

    Args:
        kind: What is expected.
        value: Of the record.
        appended_ms: When the broker took it, epoch milliseconds.

    Raises:
        NotOurs: None of our services writes it.
    """
    name = kind.DESCRIPTOR.name
    try:
        message = kind.FromString(value or b"")
    except DecodeError as exc:
        text = f"expected a message {name}, found other bytes"
        raise NotOurs(QuarantineReason.DECODE, text) from exc
    fault = _check_of(kind)(message, appended_ms)
    if fault:
        text = f"{name}.{fault} is none that our services write"
        raise NotOurs(QuarantineReason.BOUNDS, text)
    return message


def _check_of(kind: type[Message]) -> Callable[[Any, int], str]:
    return _FAULT_OF[kind]


def message_of(kind: type[M], record: StampedRecord) -> M | None:
    """Return a record's message; None where it is none of ours, which the quarantine is told."""
    try:
        return read_message(kind, record.value, record.timestamp)
    except NotOurs as exc:
        report(record, exc.reason, exc.message)
        return None
