"""Search by an exact id, by a form that posts: what is typed is in no address and no log."""

from __future__ import annotations

from typing import Final

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from fraudstream.privacy import holds_pan
from services.console.models import Alert
from services.console.pages.errors import refuse
from services.console.pages.queue_page import QueueRow
from services.console.queue_request import PAGE_SIZE
from services.console.runtime import runtime_of

_MAX_LENGTH: Final = 160


@require_POST
def search(request: HttpRequest) -> HttpResponse:
    """Show alerts, open or settled, whose alert id, card token, transaction or merchant is this."""
    wanted = request.POST.get("q", "").strip()
    if holds_pan(wanted):
        advice = "Search by card token, transaction id, merchant id or alert id. It was not kept."
        return refuse(request, 422, "That looks like a card number", advice)
    if not 0 < len(wanted) <= _MAX_LENGTH or "\0" in wanted:
        return refuse(request, 400, "Nothing to search for", "Type a whole id.")
    runtime = runtime_of(request)
    found = Alert.objects.filter(
        Q(alert_id=wanted) | Q(card_token=wanted) | Q(transaction_id=wanted) | Q(merchant_id=wanted)
    )
    newest = found.order_by("-raised_at_ms", "alert_id").defer("payload")[:PAGE_SIZE]
    now_ms = runtime.clock_ms()
    rows = [QueueRow.of(alert, runtime, now_ms) for alert in newest]
    return render(request, "console/search.html", {"rows": rows, "wanted": wanted})
