"""Alerts into the database: the first of an id is kept, whatever comes later under that id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.db import DataError, transaction

from services.console.alert_record import ReadAlert
from services.console.models import Alert


class StoreOutcome(StrEnum):
    """What became of a received alert."""

    STORED = "stored"
    REPEATED = "repeated"
    CONFLICTING = "conflicting"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class AlertStore:
    """Writes batches of alerts. One transaction each; a batch written twice changes nothing.

    Attributes:
        clock_ms: Epoch milliseconds.
    """

    clock_ms: Callable[[], int]

    def insert_absent(self, alerts: Sequence[ReadAlert]) -> list[StoreOutcome]:
        """Insert the alerts whose ids are not stored yet; return one outcome each, in order.

        An alert that the database itself refuses fails alone.
        """
        try:
            return self._insert_batch(alerts)
        except DataError:
            if len(alerts) == 1:
                return [StoreOutcome.REFUSED]
            return [outcome for alert in alerts for outcome in self.insert_absent([alert])]

    def _insert_batch(self, alerts: Sequence[ReadAlert]) -> list[StoreOutcome]:
        now_ms = self.clock_ms()
        outcomes: list[StoreOutcome] = []
        absent: list[Alert] = []
        with transaction.atomic():
            ids = {alert.message.alert_id for alert in alerts}
            known = dict(
                Alert.objects.filter(alert_id__in=ids).values_list("alert_id", "content_hash")
            )
            for alert in alerts:
                outcome = _outcome(known.get(alert.message.alert_id), alert.content_hash)
                if outcome is StoreOutcome.STORED:
                    known[alert.message.alert_id] = alert.content_hash
                    absent.append(_row(alert, now_ms))
                outcomes.append(outcome)
            # Another consumer may have inserted the same id since: the first one stays.
            Alert.objects.bulk_create(absent, ignore_conflicts=True)
        return outcomes


def _outcome(known_hash: str | None, content_hash: str) -> StoreOutcome:
    if known_hash is None:
        return StoreOutcome.STORED
    return StoreOutcome.REPEATED if known_hash == content_hash else StoreOutcome.CONFLICTING


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
        score=decision.score,
        amount_minor=spent.amount_minor,
        currency=spent.currency,
        top_reason=alert.top_reason,
        expected_loss_minor=message.expected_loss_minor,
        event_time_ms=spent.event_time_ms,
        raised_at_ms=message.raised_at_ms,
        stored_at_ms=now_ms,
    )
