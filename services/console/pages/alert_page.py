"""An alert's page, and settling from it."""

from __future__ import annotations

import re
from typing import Any, Final

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from fraudstream.errors import CaseChanged, CaseNotFound
from fraudstream.v1 import alert_pb2
from services.console.alerts.feature_table import feature_rows
from services.console.alerts.mcc import mcc_words
from services.console.alerts.picture import CHART_HEIGHT, STEP_WIDTH, reason_bars, timeline
from services.console.alerts.queue import next_open, previous_open
from services.console.alerts.wording import (
    action_word,
    channel_word,
    entry_mode_word,
    format_minor,
    format_span,
    format_time,
    kind_word,
)
from services.console.audit import Act, Event, note
from services.console.labels.settlement import (
    AnalystChoice,
    Disposition,
    settle_alert,
    settlement_of,
)
from services.console.models import Alert
from services.console.pages.errors import refuse
from services.console.runtime import Runtime, runtime_of

_VERSION_FORM: Final = re.compile(r"[0-9]{1,9}")


@require_safe
def show_alert(request: HttpRequest, alert_id: str) -> HttpResponse:
    """Show one alert."""
    alert = _alert(alert_id)
    note(request, Act(Event.ALERT_VIEWED, resource=alert_id))
    return render(request, "console/alert.html", _picture(alert, runtime_of(request)))


@require_POST
def settle(request: HttpRequest, alert_id: str) -> HttpResponse:
    """Settle an alert, then open the next one."""
    disposition = request.POST.get("disposition", "")
    version = request.POST.get("version", "")
    if disposition not in list(Disposition) or not _VERSION_FORM.fullmatch(version):
        return refuse(request, 400, "No such disposition", "Settle from the alert's page.")
    runtime = runtime_of(request)
    choice = AnalystChoice(
        alert_id=alert_id,
        seen_version=int(version),
        disposition=Disposition(disposition),
        analyst=request.user.get_username(),
        settled_at_ms=runtime.clock_ms(),
    )
    try:
        with transaction.atomic():
            settle_alert(choice)
            note(request, Act(Event.SETTLED, disposition, alert_id))
    except CaseNotFound as exc:
        raise Http404 from exc
    except CaseChanged:
        return _show_conflict(request, _alert(alert_id))
    runtime.wake_publisher.set()
    messages.success(request, f"Settled as {choice.disposition.words}.")
    following = next_open(_alert(alert_id))
    return redirect("alert", following) if following else redirect("queue")


def _alert(alert_id: str) -> Alert:
    alert = Alert.objects.filter(alert_id=alert_id).first()
    if alert is None:
        raise Http404
    return alert


def _show_conflict(request: HttpRequest, alert: Alert) -> HttpResponse:
    """Say who settled the alert meanwhile, and how."""
    shown = {"alert_id": alert.alert_id, "settled": _settled(alert), "next_id": next_open(alert)}
    return render(request, "console/conflict.html", shown, status=409)


def _settled(alert: Alert) -> dict[str, str] | None:
    """Return who settled an alert, how and when, in words."""
    held = settlement_of(alert)
    if held is None:
        return None
    return {
        "analyst": held.analyst,
        "disposition": held.disposition,
        "words": Disposition(held.disposition).words,
        "time": format_time(held.settled_at_ms),
    }


def _picture(alert: Alert, runtime: Runtime) -> dict[str, Any]:
    """Return what the template draws."""
    message = alert_pb2.Alert.FromString(bytes(alert.payload))
    steps = timeline(message, runtime.reference_currency)
    age_s = (runtime.clock_ms() - alert.raised_at_ms) // 1000
    return {
        "alert": alert,
        "facts": _facts(message),
        "place": _where(message),
        "amount": format_minor(alert.amount_minor, alert.currency),
        "expected_loss": format_minor(alert.expected_loss_minor, runtime.reference_currency),
        "action": action_word(alert.action),
        "score_percent": f"{100 * alert.score:.1f}",
        "age": format_span(age_s),
        "reasons": reason_bars(message),
        "steps": steps,
        "recent_first": steps[::-1],
        "chart_width": max(len(steps), 1) * STEP_WIDTH,
        "chart_height": CHART_HEIGHT,
        "features": feature_rows(message),
        "decision": message.decision,
        "rescored_action": action_word(message.rescore.action) if alert.is_rescored else "",
        "model_hash": message.rescore.model_hash or message.decision.model_hash,
        "settled": None if alert.is_open else _settled(alert),
        "next_id": next_open(alert),
        "previous_id": previous_open(alert),
    }


def _where(message: alert_pb2.Alert) -> str:
    """Return where the money went, in one line."""
    spent = message.decision.transaction
    parts = (spent.merchant_id, mcc_words(spent.mcc), channel_word(spent.channel), spent.country)
    return " · ".join(part for part in parts if part)


def _facts(message: alert_pb2.Alert) -> list[tuple[str, str]]:
    """Return the transaction as labelled words."""
    spent = message.decision.transaction
    words = mcc_words(spent.mcc)
    facts = (
        ("Merchant", spent.merchant_id),
        ("Category", f"{spent.mcc} {words}".strip()),
        ("Terminal", spent.terminal_id),
        ("Kind", kind_word(spent.kind)),
        ("Channel", channel_word(spent.channel)),
        ("Card read by", entry_mode_word(spent.entry_mode)),
        ("Country", spent.country),
        ("Time (UTC)", format_time(spent.event_time_ms)),
        ("Customer", spent.customer_id),
        ("Device", spent.device_id),
        ("Bank", spent.bank_id),
        ("Transaction", spent.transaction_id),
    )
    return [(name, text) for name, text in facts if text]
