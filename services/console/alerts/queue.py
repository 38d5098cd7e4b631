"""The queue: open alerts in one of the allowed orders, in pages; and who comes next."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import FloatField, Q, Sum
from django.db.models.functions import Cast

from services.console.alerts.queue_request import MAX_PAGE, PAGE_SIZE, QueueOrder, QueueRequest
from services.console.models import Alert


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One page of the queue, and how much there is in all."""

    alerts: list[Alert]
    open_count: int
    open_loss_minor: int
    newest_stored_ms: int

    def last_page(self) -> int:
        """Return the number of the last page that can be shown."""
        return min(max(-(-self.open_count // PAGE_SIZE), 1), MAX_PAGE)


def read_queue(request: QueueRequest) -> QueuePage:
    """Return one page of the open alerts, without their payloads."""
    is_open = Alert.objects.filter(is_open=True)
    start = (request.page - 1) * PAGE_SIZE
    rows = is_open.order_by(*request.order.fields).defer("payload")[start : start + PAGE_SIZE]
    # Summed as floats: whole numbers near 2^63, from before alerts had a bound, would overflow.
    loss = is_open.aggregate(total=Sum(Cast("expected_loss_minor", FloatField())))["total"]
    return QueuePage(list(rows), is_open.count(), round(loss or 0), newest_stored_ms())


def newest_stored_ms() -> int:
    """Return when the newest alert was stored, 0 for none."""
    newest = Alert.objects.order_by("-stored_at_ms").values_list("stored_at_ms", flat=True).first()
    return newest or 0


def count_newer(stored_after_ms: int) -> int:
    """Return how many open alerts were stored after a time."""
    return Alert.objects.filter(is_open=True, stored_at_ms__gt=stored_after_ms).count()


def next_open(alert: Alert) -> str | None:
    """Return the open alert that follows one, by expected loss; at the end, the queue's first."""
    follows = Q(expected_loss_minor__lt=alert.expected_loss_minor) | Q(
        expected_loss_minor=alert.expected_loss_minor, alert_id__gt=alert.alert_id
    )
    others = Alert.objects.filter(is_open=True).exclude(alert_id=alert.alert_id)
    ids = others.order_by(*QueueOrder.LOSS.fields).values_list("alert_id", flat=True)
    return ids.filter(follows).first() or ids.first()


def previous_open(alert: Alert) -> str | None:
    """Return the open alert before one, by expected loss; None at the beginning."""
    precedes = Q(expected_loss_minor__gt=alert.expected_loss_minor) | Q(
        expected_loss_minor=alert.expected_loss_minor, alert_id__lt=alert.alert_id
    )
    before = Alert.objects.filter(precedes, is_open=True)
    return (
        before.order_by("expected_loss_minor", "-alert_id")
        .values_list("alert_id", flat=True)
        .first()
    )
