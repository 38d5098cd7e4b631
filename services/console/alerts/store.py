"""Alerts into the database: the first of an id is kept, whatever comes later under that id.

One exception: what a model says after a stand-in decision is added to its alert, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from django.db import DataError, transaction

from services.console.alerts.record import ReadAlert
from services.console.models import Alert


class StoreOutcome(StrEnum):
    """What became of a received alert."""

    STORED = "stored"
    RESCORED = "rescored"
    REPEATED = "repeated"
    CONFLICTING = "conflicting"
    REFUSED = "refused"


_CHANGES: Final = (StoreOutcome.STORED, StoreOutcome.RESCORED)


@dataclass(frozen=True, slots=True)
class AlertStore:
    """Writes batches of alerts. One transaction each; a batch written twice changes nothing.

    Attributes:
        clock_ms: Epoch milliseconds.
    """

    clock_ms: Callable[[], int]

    def write(self, alerts: Sequence[ReadAlert]) -> list[StoreOutcome]:
        """Insert what is not stored yet, add what a model said later; return the outcomes in order.

        An alert that the database itself refuses fails alone.
        """
        try:
            return self._insert_batch(alerts)
        except DataError:
            if len(alerts) == 1:
                return [StoreOutcome.REFUSED]
            return [outcome for alert in alerts for outcome in self.write([alert])]

    def _insert_batch(self, alerts: Sequence[ReadAlert]) -> list[StoreOutcome]:
        now_ms = self.clock_ms()
        outcomes: list[StoreOutcome] = []
        absent: list[ReadAlert] = []
        rescored: list[ReadAlert] = []
        with transaction.atomic():
            ids = {alert.message.alert_id for alert in alerts}
            rows = Alert.objects.filter(alert_id__in=ids)
            known = {
                alert_id: _Known(content_hash, is_rescored)
                for alert_id, content_hash, is_rescored in rows.values_list(
                    "alert_id", "content_hash", "is_rescored"
                )
            }
            for alert in alerts:
                alert_id = alert.message.alert_id
                outcome = _outcome(known.get(alert_id), alert)
                if outcome in _CHANGES:
                    known[alert_id] = _Known(alert.content_hash, alert.is_rescored)
                    (absent if outcome is StoreOutcome.STORED else rescored).append(alert)
                outcomes.append(outcome)
            # Another consumer may have inserted the same id since: the first one stays.
            Alert.objects.bulk_create(
                [_row(each, now_ms) for each in absent], ignore_conflicts=True
            )
            for each in rescored:
                _add_rescore(each)
        return outcomes


@dataclass(frozen=True, slots=True)
class _Known:
    """What is stored of an alert: the hash of its decision, and whether a model has answered."""

    content_hash: str
    is_rescored: bool


def _outcome(known: _Known | None, alert: ReadAlert) -> StoreOutcome:
    if known is None:
        return StoreOutcome.STORED
    if known.content_hash != alert.content_hash:
        return StoreOutcome.CONFLICTING
    if alert.is_rescored and not known.is_rescored:
        return StoreOutcome.RESCORED
    return StoreOutcome.REPEATED


def _add_rescore(alert: ReadAlert) -> None:
    """Write what a model said into the row of its alert; an analyst's disposition stays."""
    Alert.objects.filter(alert_id=alert.message.alert_id, is_rescored=False).update(
        is_rescored=True,
        payload=alert.value,
        score=alert.score,
        top_reason=alert.top_reason,
        expected_loss_minor=alert.message.expected_loss_minor,
    )


def _row(alert: ReadAlert, now_ms: int) -> Alert:
    """Return the row of an alert."""
    message = alert.message
    decision, spent = message.decision, message.decision.transaction
    return Alert(
        alert_id=message.alert_id,
        content_hash=alert.content_hash,
        payload=alert.value,
        bank_id=spent.bank_id,
        transaction_id=spent.transaction_id,
        card_token=spent.card_token,
        merchant_id=spent.merchant_id,
        action=decision.action,
        score=alert.score,
        is_rescored=alert.is_rescored,
        amount_minor=spent.amount_minor,
        currency=spent.currency,
        top_reason=alert.top_reason,
        expected_loss_minor=message.expected_loss_minor,
        event_time_ms=spent.event_time_ms,
        raised_at_ms=message.raised_at_ms,
        stored_at_ms=now_ms,
    )
