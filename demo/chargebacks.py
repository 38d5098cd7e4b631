"""Chargebacks of simulated frauds: the labels that a bank would send weeks later, soon."""

from __future__ import annotations

import heapq

from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.label_pb2 import DISPOSITION_CONFIRMED_FRAUD, LABEL_SOURCE_CHARGEBACK, Label


def chargeback_of(decision: Decision, settled_at_ms: int) -> Label:
    """Return the label that says a decided transaction was a fraud."""
    transaction = decision.transaction
    return Label(
        label_id=f"chargeback-{decision.decision_id}",
        bank_id=decision.bank_id,
        transaction_id=decision.transaction_id,
        card_token=decision.card_token,
        event_time_ms=decision.event_time_ms,
        disposition=DISPOSITION_CONFIRMED_FRAUD,
        source=LABEL_SOURCE_CHARGEBACK,
        customer_id=transaction.customer_id,
        merchant_id=transaction.merchant_id,
        terminal_id=transaction.terminal_id,
        device_id=transaction.device_id,
        ip=transaction.ip,
        settled_at_ms=settled_at_ms,
    )


class Chargebacks:
    """Holds decided frauds until their chargebacks are due.

    Args:
        delay_ms: From the event to its chargeback.
    """

    def __init__(self, delay_ms: int) -> None:
        self._delay_ms = delay_ms
        self._waiting: list[tuple[int, str, Label]] = []

    def add(self, decision: Decision) -> None:
        """Take up a fraud."""
        due_ms = decision.event_time_ms + self._delay_ms
        label = chargeback_of(decision, due_ms)
        heapq.heappush(self._waiting, (due_ms, label.label_id, label))

    def due(self, now_ms: int) -> list[Label]:
        """Return the labels that are due, the earliest first, and forget them."""
        labels = []
        while self._waiting and self._waiting[0][0] <= now_ms:
            labels.append(heapq.heappop(self._waiting)[2])
        return labels
