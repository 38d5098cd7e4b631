"""A guess at a password or a code: counted, and noted where it may not be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.http import HttpRequest

from services.console.audit import Act, Event, note
from services.console.runtime import runtime_of
from services.console.sign_in.throttle import Guesses, take_guess


def may_guess(
    request: HttpRequest,
    guesses: Sequence[Guesses],
    event: Event,
    name_of: Callable[[HttpRequest], str] | None = None,
) -> bool:
    """Count a guess that is about to be made; return whether it may be.

    Args:
        request: That brings it.
        guesses: What it counts for.
        event: What the trail calls it where it is refused.
        name_of: Finds the name for the trail where the request has no user yet; asked if need be.
    """
    taken = take_guess(guesses, runtime_of(request).clock_ms())
    if not taken.may_be_made and taken.is_told:
        note(request, Act(event, "throttled"), name_of(request) if name_of else None)
    return taken.may_be_made
