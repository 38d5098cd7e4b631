"""A record of `alerts.raised.v1` read into columns, or the reason why it cannot be."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from fraudstream.telemetry import TRACEPARENT
from fraudstream.v1 import decision_pb2
from fraudstream.v1.alert_pb2 import Alert

_ALERT_ID: Final = re.compile(r"[0-9a-f]{32}")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
# The columns' widths; the wire has none of its own.
_WIDTHS: Final = {
    "bank_id": 64,
    "transaction_id": 128,
    "card_token": 160,
    "merchant_id": 256,
}
_REASON_WIDTH: Final = 256
_MAX_ALERT_BYTES: Final = 262_144
# The year 10000: no calendar here goes further.
_END_OF_TIME_MS: Final = 253_402_300_800_000


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Where a record lies in the log."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class ReadAlert:
    """A record that is an alert.

    Attributes:
        message: The alert.
        value: Its bytes, as they came.
        traceparent: The record's trace header.
    """

    message: Alert
    value: bytes
    traceparent: bytes | None

    @property
    def content_hash(self) -> str:
        """Return a hash of what the decision says: two honest copies of an alert share it.

        Timings are left out: a decision sent again by the outbox is the same decision.
        """
        decision = self.message.decision
        listing = (
            decision.decision_id,
            decision.digest.hex(),
            str(decision.action),
            repr(decision.score),
            decision.model_hash,
            decision.rule_set_hash,
        )
        return hashlib.sha256("\x1f".join(listing).encode()).hexdigest()

    @property
    def is_rescored(self) -> bool:
        """Whether a model has answered after a stand-in decision."""
        return self.message.HasField("rescore")

    @property
    def score(self) -> float:
        """Return the model's score; 0 where only a stand-in has answered."""
        return self.message.rescore.score if self.is_rescored else self.message.decision.score

    @property
    def top_reason(self) -> str:
        """Return the words of the reason that weighs most towards fraud."""
        said_by = self.message.rescore if self.is_rescored else self.message.decision
        reasons = said_by.reasons
        if not reasons:
            return ""
        return max(reasons, key=lambda reason: reason.contribution).text[:_REASON_WIDTH]


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """A record that is not an alert: why, as a code without any of its content."""

    coordinates: Coordinates
    reason: str


def read_alert(
    value: bytes | None, headers: list[tuple[str, bytes]], coordinates: Coordinates
) -> ReadAlert | UnreadableRecord:
    """Read one record. Never raises: a record that is no alert must not stop the consumer."""
    if value is None or len(value) > _MAX_ALERT_BYTES:
        return UnreadableRecord(coordinates, "RECORD_SIZE")
    try:
        message = Alert.FromString(value)
    except DecodeError:
        return UnreadableRecord(coordinates, "RECORD_ENCODING")
    fault = _fault_of(message)
    if fault:
        return UnreadableRecord(coordinates, fault)
    traceparent = next((text for name, text in headers if name == TRACEPARENT), None)
    return ReadAlert(message, value, traceparent)


def _fault_of(message: Alert) -> str:
    """Return what is wrong with an alert as a code, or an empty string."""
    decision, transaction = message.decision, message.decision.transaction
    names = {name: getattr(transaction, name) for name in _WIDTHS}
    times = [step.event_time_ms for step in message.sequence]
    times += [message.raised_at_ms, transaction.event_time_ms]
    scores = (decision.score, message.rescore.score)
    reasons = (*decision.reasons, *message.rescore.reasons)
    checks = (
        ("ALERT_ID", bool(_ALERT_ID.fullmatch(message.alert_id))),
        ("PAN_PRESENT", transaction.WhichOneof("card") == "card_token"),
        ("ACTION_UNKNOWN", decision.action != decision_pb2.ACTION_UNSPECIFIED),
        ("SCORE_RANGE", all(math.isfinite(score) and 0 <= score <= 1 for score in scores)),
        ("CURRENCY_UNKNOWN", bool(_CURRENCY.fullmatch(transaction.currency))),
        ("TEXT_LENGTH", all(len(names[name]) <= width for name, width in _WIDTHS.items())),
        # PostgreSQL stores no NUL in a text.
        ("TEXT_CONTROL", not any("\0" in text for text in names.values())),
        ("TEXT_CONTROL", not any("\0" in reason.text for reason in reasons)),
        ("TIME_RANGE", all(0 <= time_ms < _END_OF_TIME_MS for time_ms in times)),
    )
    return next((code for code, holds in checks if not holds), "")
