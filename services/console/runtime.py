"""What pages need besides the database: handed to each request by the WSGI application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Final, cast

from django.http import HttpRequest

from fraudstream.runtime.clock import epoch_ms
from services.console.sign_in_policy import SignInPolicy

ENVIRON_KEY: Final = "console.runtime"


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of this process that pages touch.

    Attributes:
        clock_ms: Epoch milliseconds.
        wake_publisher: Set when a label was put into the outbox.
        reference_currency: Currency of expected losses and of a card's history.
        policy: What signing in demands.
        security_contact: Where a weakness is reported; empty for nowhere.
    """

    clock_ms: Callable[[], int] = epoch_ms
    wake_publisher: Event = field(default_factory=Event)
    reference_currency: str = "EUR"
    policy: SignInPolicy = field(default_factory=SignInPolicy)
    security_contact: str = ""


def runtime_of(request: HttpRequest) -> Runtime:
    """Return the runtime that came with a request."""
    return cast("Runtime", request.META[ENVIRON_KEY])
