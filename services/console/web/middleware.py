"""What every request passes through: limits, headers, and sessions that live while used."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias, cast

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from services.console.django_settings import MAX_BODY_BYTES
from services.console.sign_in.steps import missing_step

View: TypeAlias = Callable[[HttpRequest], HttpResponseBase]

_POLICY: Final = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# How seldom the session of a busy analyst is written again.
_PROLONG_EVERY_S: Final = 60
_USED_AT: Final = "used_at_s"
# Asked by the page itself, not by the analyst: it must not keep a session alive.
_UNATTENDED_PATHS: Final = ("/queue/newer",)
# Open to those who have given a password and nothing more.
_BEFORE_SIGNED_IN: Final = ("/login", "/logout")


def limit_bodies(view: View) -> View:
    """Refuse bodies above the bound, and those that do not say how long they are."""

    def limited(request: HttpRequest) -> HttpResponseBase:
        if request.headers.get("Transfer-Encoding"):
            return HttpResponse("Content-Length needed", status=411, content_type="text/plain")
        length = request.headers.get("Content-Length") or "0"
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return HttpResponse("Body too large", status=413, content_type="text/plain")
        return view(request)

    return limited


def secure_responses(view: View) -> View:
    """Add the headers that Django does not, and keep pages out of caches."""

    def secured(request: HttpRequest) -> HttpResponseBase:
        response = view(request)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return secured


def complete_sign_in(view: View) -> View:
    """Send an analyst who has not finished signing in to what is missing."""

    def completed(request: HttpRequest) -> HttpResponseBase:
        if not request.user.is_authenticated or request.path in _BEFORE_SIGNED_IN:
            return view(request)
        missing = missing_step(request, cast("User", request.user))
        if missing and request.path != reverse(missing):
            return redirect(missing)
        return view(request)

    return completed


def prolong_sessions(view: View) -> View:
    """Move the end of an analyst's session while requests come; unused, it ends."""

    def prolonged(request: HttpRequest) -> HttpResponseBase:
        if request.user.is_authenticated and request.path not in _UNATTENDED_PATHS:
            now_s = int(time.time())
            if now_s - request.session.get(_USED_AT, 0) > _PROLONG_EVERY_S:
                request.session[_USED_AT] = now_s
                request.session.set_expiry(settings.SESSION_COOKIE_AGE)
        return view(request)

    return prolonged
