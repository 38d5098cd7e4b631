"""What pages need besides the database: handed to each request by the WSGI application."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Final, cast

from django.http import HttpRequest

ENVIRON_KEY: Final = "console.runtime"


def epoch_ms() -> int:
    """Return the time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def epoch_us() -> int:
    """Return the time in epoch microseconds."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of this process that pages touch.

    Attributes:
        clock_ms: Epoch milliseconds.
        wake_publisher: Set when a label was put into the outbox.
        reference_currency: Currency of expected losses and of a card's history.
    """

    clock_ms: Callable[[], int] = epoch_ms
    wake_publisher: Event = field(default_factory=Event)
    reference_currency: str = "EUR"


def runtime_of(request: HttpRequest) -> Runtime:
    """Return the runtime that came with a request."""
    return cast("Runtime", request.META[ENVIRON_KEY])
