"""What follows the password: a new one where it is due, and the code of an authenticator."""

from __future__ import annotations

from typing import Any, Final, cast

import segno
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_http_methods
from django_otp import login as confirm_second_factor  # type: ignore[import-untyped]  # ships no types
from django_otp.plugins.otp_totp.models import TOTPDevice  # type: ignore[import-untyped]  # ships no types

from services.console.audit import Act, Event, note
from services.console.pages.guessing import may_guess
from services.console.runtime import runtime_of
from services.console.sign_in.second_factor import enrolled_device, is_right_code, offered_device
from services.console.sign_in.steps import end_step
from services.console.sign_in.throttle import code_guesses_of, forgive_guess
from services.console.sign_in.users import set_password

_TOO_MANY: Final = "Too many wrong codes. Wait 30 minutes, or have an operator run `unlock`."
_WRONG: Final = "That code is not right. Codes change every 30 seconds: type the present one."


@require_http_methods(["GET", "HEAD", "POST"])
def change_password(request: HttpRequest) -> HttpResponse:
    """Take a new password of a user who knows the present one."""
    user = cast("User", request.user)
    if request.method != "POST":
        return _show_password(request, [])
    form = PasswordChangeForm(user, request.POST)
    guesses = code_guesses_of(user.get_username())
    now_ms = runtime_of(request).clock_ms()
    if not may_guess(request, guesses, Event.PASSWORD_CHANGED):
        return _show_password(request, ["Too many wrong passwords. Wait 30 minutes."], 429)
    if not form.is_valid():
        if "old_password" not in form.errors:
            forgive_guess(guesses)
        note(request, Act(Event.PASSWORD_CHANGED, "refused"))
        return _show_password(
            request, [str(each) for chunk in form.errors.values() for each in chunk]
        )
    forgive_guess(guesses)
    set_password(user, form.cleaned_data["new_password1"], now_ms)
    update_session_auth_hash(request, user)
    note(request, Act(Event.PASSWORD_CHANGED))
    return end_step(request, redirect("queue"))


@require_http_methods(["GET", "HEAD", "POST"])
def second_factor(request: HttpRequest) -> HttpResponse:
    """Take the code of an authenticator; of a user without one, set it up by its first code."""
    user = cast("User", request.user)
    enrolled = enrolled_device(user)
    device = enrolled or offered_device(user, request.session.session_key or "")
    offered = None if enrolled else device
    if request.method != "POST":
        return _show_code(request, offered)
    event = Event.SECOND_FACTOR if enrolled else Event.SECOND_FACTOR_SET
    guesses = code_guesses_of(user.get_username())
    if not may_guess(request, guesses, event):
        return _show_code(request, offered, _TOO_MANY, 429)
    if not is_right_code(device, request.POST.get("code", "").replace(" ", "")[:16]):
        note(request, Act(event, "refused"))
        return _show_code(request, offered, _WRONG, 401)
    forgive_guess(guesses)
    # A session from before the second factor must not become one after it.
    request.session.cycle_key()
    confirm_second_factor(request, device)
    note(request, Act(event))
    return end_step(request, redirect("queue"))


def _show_password(request: HttpRequest, faults: list[str], status: int = 0) -> HttpResponse:
    status = status or (400 if faults else 200)
    return render(
        request, "console/password.html", {"faults": faults, "is_unfinished": True}, status=status
    )


def _show_code(
    request: HttpRequest, offered: TOTPDevice | None, refusal: str = "", status: int = 200
) -> HttpResponse:
    context: dict[str, Any] = {"refusal": refusal, "is_unfinished": True}
    if offered is not None:
        picture = segno.make(offered.config_url).svg_inline(scale=4, border=2, omitsize=True)
        context |= {
            # Made by us from a key and a name, as a picture without script or style.
            "picture": mark_safe(picture),  # noqa: S308  # see above
            "secret": offered.config_url.partition("secret=")[2].partition("&")[0],
        }
    return render(request, "console/second_factor.html", context, status=status)
