"""Settling an alert: disposition and label in one database transaction, once for each version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from django.db import transaction

from fraudstream.errors import CaseChanged, CaseNotFound
from fraudstream.v1 import alert_pb2, label_pb2
from fraudstream.v1.label_pb2 import LABEL_SOURCE_ANALYST, Label
from services.console.models import Alert, OutboxLabel, Settlement


class Disposition(StrEnum):
    """What an alert turned out to be."""

    CONFIRMED_FRAUD = "confirmed_fraud"
    GENUINE = "genuine"
    UNDETERMINED = "undetermined"

    @property
    def words(self) -> str:
        """Return it as people read it.

        >>> Disposition.CONFIRMED_FRAUD.words
        'confirmed fraud'
        """
        return self.value.replace("_", " ")


WIRE: Final = {
    Disposition.CONFIRMED_FRAUD: label_pb2.DISPOSITION_CONFIRMED_FRAUD,
    Disposition.GENUINE: label_pb2.DISPOSITION_GENUINE,
    Disposition.UNDETERMINED: label_pb2.DISPOSITION_UNDETERMINED,
}


def label_id_of(alert_id: str, version: int) -> str:
    """Return the id of the label that a settlement makes: the same version always has the same.

    >>> label_id_of("a" * 32, 1) == label_id_of("a" * 32, 2)
    False
    """
    return hashlib.sha256(f"label/{alert_id}/{version}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class AnalystChoice:
    """What an analyst says about an alert, and which version of it was on the screen."""

    alert_id: str
    seen_version: int
    disposition: Disposition
    analyst: str
    settled_at_ms: int


def settle_alert(choice: AnalystChoice) -> None:
    """Store a disposition and put its label into the outbox.

    The same disposition of the same analyst again changes nothing: a request sent twice is one act.

    Raises:
        CaseNotFound: No such alert.
        CaseChanged: It was settled since the analyst's page was made.
    """
    with transaction.atomic():
        claimed = Alert.objects.filter(
            alert_id=choice.alert_id, version=choice.seen_version, is_open=True
        ).update(is_open=False, version=choice.seen_version + 1)
        if not claimed:
            _refuse_unless_same(choice)
            return
        alert = Alert.objects.get(alert_id=choice.alert_id)
        Settlement.objects.create(
            alert=alert,
            version=alert.version,
            disposition=choice.disposition.value,
            analyst=choice.analyst,
            settled_at_ms=choice.settled_at_ms,
        )
        label = label_of(alert, choice)
        OutboxLabel.objects.create(
            label_id=label.label_id,
            card_token=label.card_token,
            payload=label.SerializeToString(deterministic=True),
        )


def settlement_of(alert: Alert) -> Settlement | None:
    """Return the settlement that holds for an alert."""
    return Settlement.objects.filter(alert=alert, version=alert.version).first()


def label_of(alert: Alert, choice: AnalystChoice) -> Label:
    """Return the label that a disposition makes of an alert."""
    spent = alert_pb2.Alert.FromString(bytes(alert.payload)).decision.transaction
    return Label(
        label_id=label_id_of(alert.alert_id, alert.version),
        bank_id=spent.bank_id,
        transaction_id=spent.transaction_id,
        card_token=spent.card_token,
        event_time_ms=spent.event_time_ms,
        disposition=WIRE[choice.disposition],
        source=LABEL_SOURCE_ANALYST,
        customer_id=spent.customer_id,
        merchant_id=spent.merchant_id,
        terminal_id=spent.terminal_id,
        device_id=spent.device_id,
        ip=spent.ip,
        analyst=choice.analyst,
        settled_at_ms=choice.settled_at_ms,
    )


def _refuse_unless_same(choice: AnalystChoice) -> None:
    """Raise why a disposition cannot be stored, unless it is stored already."""
    alert = Alert.objects.filter(alert_id=choice.alert_id).first()
    if alert is None:
        msg = f"no alert {choice.alert_id}"
        raise CaseNotFound(msg)
    held = settlement_of(alert)
    is_same = held is not None and (held.version, held.disposition, held.analyst) == (
        choice.seen_version + 1,
        choice.disposition.value,
        choice.analyst,
    )
    if not is_same:
        msg = f"alert {choice.alert_id} is at version {alert.version}, not {choice.seen_version}"
        raise CaseChanged(msg)
