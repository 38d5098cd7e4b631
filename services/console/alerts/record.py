"""A record of `alerts.raised.v1`, and what the columns of its row say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fraudstream.broker.messages import StampedRecord, message_of
from fraudstream.broker.quarantine import report
from fraudstream.reject_reasons import QuarantineReason
from fraudstream.telemetry.trace_context import TRACEPARENT
from fraudstream.v1.alert_pb2 import Alert

_REASON_WIDTH: Final = 256
_MAX_ALERT_BYTES: Final = 262_144


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


class AlertRecord(StampedRecord, Protocol):
    """A record with its headers."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Names and contents."""
        ...


def read_alert(record: AlertRecord) -> ReadAlert | None:
    """Read one record; None for what scoring cannot have written, which the quarantine is told."""
    size = len(record.value or b"")
    if size > _MAX_ALERT_BYTES:
        text = f"expected at most {_MAX_ALERT_BYTES} bytes, found {size}"
        report(record, QuarantineReason.BOUNDS, text)
        return None
    message = message_of(Alert, record)
    if message is None:
        return None
    traceparent = next((text for name, text in record.headers if name == TRACEPARENT), None)
    return ReadAlert(message, record.value or b"", traceparent)
