"""The audit trail: who signed in, looked, settled, changed a user (PCI DSS 10.2.1 and 10.2.2).

An event is a row that names who, from where, what, when, on what and with which outcome, and a line
in the log, so that another system holds it too. Each row carries the SHA-256 of the row before it
and of itself: a row that was changed, taken out or put in between breaks the chain, and the newest
hash in the log tells whether the end was cut off.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from django.db import connection, transaction
from django.http import HttpRequest

from services.console.models import AuditEvent
from services.console.runtime import runtime_of
from services.console.sign_in.origin import origin_of

_LOG: Final = logging.getLogger(__name__)
DONE: Final = "done"
OPERATOR: Final = "operator"  # whoever may run the console's commands
_NOBODY: Final = ""
_BEFORE_ALL: Final = "0" * 64
# Any number that no other program uses on the same PostgreSQL database.
_CHAIN_LOCK: Final = 0x66726176


class Event(StrEnum):
    """What can be done."""

    SIGN_IN = "sign_in"
    SIGN_OUT = "sign_out"
    SECOND_FACTOR = "second_factor"
    SECOND_FACTOR_SET = "second_factor_set"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105  # the name of an event
    QUEUE_VIEWED = "queue_viewed"
    ALERT_VIEWED = "alert_viewed"
    SEARCHED = "searched"
    SETTLED = "settled"
    USER_CREATED = "user_created"
    USER_CHANGED = "user_changed"


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that somebody did.

    Attributes:
        event: What.
        outcome: `done`, or why not.
        resource: On what: an alert's id, a user's name.
    """

    event: Event
    outcome: str = DONE
    resource: str = ""


def note(request: HttpRequest, act: Act, who: str | None = None) -> None:
    """Write down what a request did.

    Args:
        request: Whose user and origin are named.
        act: What it did.
        who: The user's name where the request has none yet; never a name that no user has, for
            people type passwords there.
    """
    name = request.user.get_username() if who is None else who
    append(act, runtime_of(request).clock_ms(), name or _NOBODY, origin_of(request))


def append(act: Act, at_ms: int, who: str, origin: str) -> None:
    """Append an event to the trail, and write it to the log."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CHAIN_LOCK])
        last = AuditEvent.objects.order_by("-id").values_list("chain_hash", flat=True).first()
        row = AuditEvent(
            at_ms=at_ms,
            who=who[:150],
            origin=origin[:64],
            event=act.event.value,
            outcome=act.outcome[:64],
            resource=act.resource[:160],
        )
        row.chain_hash = _hash_of(row, last or _BEFORE_ALL)
        row.save(force_insert=True)
    _LOG.info(
        "audit %s by %r from %s on %r: %s (%s)",
        row.event,
        row.who,
        row.origin or "here",
        row.resource,
        row.outcome,
        row.chain_hash,
    )


def events(since_ms: int = 0) -> Iterator[tuple[AuditEvent, bool]]:
    """Yield the trail's events from a time on, and whether each fits the one before it."""
    before = _BEFORE_ALL
    for row in AuditEvent.objects.order_by("id").iterator():
        fits = row.chain_hash == _hash_of(row, before)
        before = row.chain_hash
        if row.at_ms >= since_ms or not fits:
            yield row, fits


def line_of(row: AuditEvent) -> str:
    """Return an event as a line of JSON."""
    return json.dumps(_content(row) | {"chain_hash": row.chain_hash}, separators=(",", ":"))


def _content(row: AuditEvent) -> dict[str, str | int]:
    return {
        "at_ms": row.at_ms,
        "who": row.who,
        "origin": row.origin,
        "event": row.event,
        "outcome": row.outcome,
        "resource": row.resource,
    }


def _hash_of(row: AuditEvent, before: str) -> str:
    content = json.dumps(_content(row), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{before}\n{content}".encode()).hexdigest()
