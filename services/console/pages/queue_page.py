"""The queue's page, and how many alerts came since it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_safe

from services.console.alerts.queue import count_newer, read_queue
from services.console.alerts.queue_request import QueueRequest
from services.console.alerts.wording import action_word, format_minor, format_span, short_token
from services.console.audit import Act, Event, note
from services.console.models import Alert
from services.console.pages.errors import refuse
from services.console.runtime import Runtime, runtime_of

_SHOWN_NEWER: int = 999


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One alert in words."""

    alert_id: str
    expected_loss: str
    amount: str
    score_percent: str
    action: str
    reason: str
    merchant: str
    card_token: str
    short_token: str
    age: str
    is_open: bool

    @classmethod
    def of(cls, alert: Alert, runtime: Runtime, now_ms: int) -> Self:
        """Return the row of an alert."""
        return cls(
            alert_id=alert.alert_id,
            expected_loss=format_minor(alert.expected_loss_minor, runtime.reference_currency),
            amount=format_minor(alert.amount_minor, alert.currency),
            score_percent=f"{100 * alert.score:.1f}",
            action=action_word(alert.action),
            reason=alert.top_reason,
            merchant=alert.merchant_id,
            card_token=alert.card_token,
            short_token=short_token(alert.card_token),
            age=format_span((now_ms - alert.raised_at_ms) // 1000),
            is_open=alert.is_open,
        )


@require_safe
def show_queue(request: HttpRequest) -> HttpResponse:
    """Show one page of the open alerts."""
    wanted = QueueRequest.parse(request.GET.get("sort", "loss"), request.GET.get("page", "1"))
    if wanted is None:
        advice = "Sort by loss, newest or score; pages go from 1 to 200."
        return refuse(request, 400, "The queue has no such order or page", advice)
    runtime = runtime_of(request)
    page = read_queue(wanted)
    note(request, Act(Event.QUEUE_VIEWED, resource=f"{wanted.order.value}, page {wanted.page}"))
    now_ms = runtime.clock_ms()
    return render(
        request,
        "console/queue.html",
        {
            "rows": [QueueRow.of(alert, runtime, now_ms) for alert in page.alerts],
            "order": wanted.order.value,
            "page": wanted.page,
            "last_page": page.last_page(),
            "open_count": page.open_count,
            "open_loss": format_minor(page.open_loss_minor, runtime.reference_currency),
            "newest_stored_ms": page.newest_stored_ms,
        },
    )


@require_GET
def count_newer_alerts(request: HttpRequest) -> JsonResponse:
    """Say how many open alerts were stored after a time: `after`, epoch milliseconds."""
    after = request.GET.get("after", "")
    if not after.isdecimal() or len(after) > 15:
        return JsonResponse({"error": "after is epoch milliseconds"}, status=400)
    return JsonResponse({"newer": min(count_newer(int(after)), _SHOWN_NEWER)})
