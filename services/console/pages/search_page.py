"""Search by an exact id, by a form that posts: what is typed is in no address and no log."""

from __future__ import annotations

import re
from typing import Final

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from fraudstream.card_data.detector import kind_of
from fraudstream.transaction.identity import Identity, alert_id_of
from services.console.alerts.queue_request import PAGE_SIZE
from services.console.audit import Act, Event, note
from services.console.models import Alert
from services.console.pages.errors import refuse
from services.console.pages.queue_page import QueueRow
from services.console.runtime import runtime_of

_MAX_LENGTH: Final = 160
_DECISION_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


@require_POST
def search(request: HttpRequest) -> HttpResponse:
    """Show alerts, open or settled, by card token, transaction, merchant, alert or decision id."""
    wanted = request.POST.get("q", "").strip()
    if not 0 < len(wanted) <= _MAX_LENGTH:
        return refuse(request, 400, "Nothing to search for", "Type a whole id.")
    if kind_of(wanted):
        advice = "Search by the id of a transaction, merchant, alert or decision. It was not kept."
        return refuse(request, 422, "That looks like a card number", advice)
    runtime = runtime_of(request)
    found = Alert.objects.filter(
        Q(alert_id__in=_alert_ids(wanted))
        | Q(card_token=wanted)
        | Q(transaction_id=wanted)
        | Q(merchant_id=wanted)
    )
    newest = list(found.order_by("-raised_at_ms", "alert_id").defer("payload")[:PAGE_SIZE])
    # What was typed is kept nowhere: it may be anything.
    first = newest[0].alert_id if newest else ""
    note(request, Act(Event.SEARCHED, f"{len(newest)} found", first))
    now_ms = runtime.clock_ms()
    rows = [QueueRow.of(alert, runtime, now_ms) for alert in newest]
    return render(request, "console/search.html", {"rows": rows, "wanted": wanted})


def _alert_ids(wanted: str) -> list[str]:
    """Return the alert ids that an id may mean: itself, and that of the decision with this id."""
    if not _DECISION_ID.fullmatch(wanted):
        return [wanted]
    return [wanted, alert_id_of(Identity(bytes.fromhex(wanted)))]
