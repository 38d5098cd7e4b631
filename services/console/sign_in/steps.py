"""The steps of a login: the password, an authenticator's code, a new password where one is due."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse

from services.console.models import Account
from services.console.runtime import runtime_of
from services.console.sign_in.second_factor import enrolled_device
from services.console.sign_in.throttle import know_browser
from services.console.sign_in.users import account_of, needs_new_password


def missing_step(request: HttpRequest, user: User) -> str:
    """Return the name of the page that a user has to go through, or an empty string.

    The code comes before a new password: who has stolen an old one must not choose the next.
    """
    runtime = runtime_of(request)
    now_ms = runtime.clock_ms()
    # Set by django-otp, which asks at each request whether the device is still there.
    is_verified = getattr(user, "otp_device", None) is not None
    if not is_verified and enrolled_device(user):
        return "second_factor"
    if needs_new_password(account_of(user, now_ms), runtime.policy, now_ms):
        return "password"
    return "second_factor" if runtime.policy.needs_second_factor and not is_verified else ""


def end_step(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Know the browser from now on where the step that was just taken was the last one."""
    user = cast("User", request.user)
    # Of the password that was given: while it was looked at, another one may have been set.
    account = Account.objects.filter(user_id=user.pk, user__password=user.password).first()
    if account and not missing_step(request, user):
        know_browser(request, response, account)
    return response
