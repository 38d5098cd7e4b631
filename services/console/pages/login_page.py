"""The login page: Django's, with a bound on guesses in front of the password check."""

from __future__ import annotations

import re
from typing import Final, cast

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse

from services.console.audit import DONE, Act, Event, note
from services.console.pages.guessing import may_guess
from services.console.runtime import runtime_of
from services.console.sign_in.origin import origin_of
from services.console.sign_in.steps import end_step
from services.console.sign_in.throttle import Guesses, forgive_guess, guesses_of
from services.console.sign_in.users import account_of, is_abandoned

FAILED: Final = "Name and password do not match an account."
THROTTLED: Final = (
    "Too many failed logins. Wait 30 minutes, then try again; or log in with a browser that has"
    " logged in before, or have an operator run `unlock`."
)


# What a login may lead to. What else was asked for may be anything, and is not repeated.
_WANTED: Final = re.compile(r"/|/alerts/[0-9a-f]{32}")


class _SignInForm(AuthenticationForm):
    """Django's form, which also refuses an account that nobody used for too long."""

    def confirm_login_allowed(self, user: User) -> None:  # type: ignore[override]  # our user model
        super().confirm_login_allowed(user)
        if self.request is None:
            return
        runtime = runtime_of(self.request)
        now_ms = runtime.clock_ms()
        if is_abandoned(account_of(user, now_ms), runtime.policy, now_ms):
            raise ValidationError("abandoned", code="abandoned")


class ThrottledLoginView(LoginView):
    """Logs analysts in. Who failed too often waits, whether or not the name exists."""

    template_name = "console/login.html"
    redirect_authenticated_user = True
    next_page = "queue"
    form_class = _SignInForm
    _guesses: tuple[Guesses, ...] = ()

    def post(self, request: HttpRequest, *args: str, **kwargs: str) -> HttpResponse:
        """Count the guess, then look at the password."""
        self._guesses = guesses_of(request, _typed_name(request), origin_of(request))
        if not may_guess(request, self._guesses, Event.SIGN_IN, _known_name):
            return self._refused(THROTTLED, 429)
        return super().post(request, *args, **kwargs)

    def get_redirect_url(self) -> str:  # type: ignore[override]  # the stubs are of another release
        """Return the page that was asked for before the login; empty where it is none of ours."""
        wanted = super().get_redirect_url()
        return wanted if _WANTED.fullmatch(wanted) else ""

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Log in: Django gives the session a new key."""
        forgive_guess(self._guesses)
        user = cast("User", form.get_user())
        now_ms = runtime_of(self.request).clock_ms()
        account = account_of(user, now_ms)
        account.signed_in_at_ms = now_ms
        account.save()
        response = super().form_valid(form)
        note(self.request, Act(Event.SIGN_IN))
        return end_step(self.request, response)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Say the same for every cause; the audit trail says which."""
        codes = [fault.code for fault in form.non_field_errors().as_data()]
        why = next((code for code in codes if code in ("abandoned", "inactive")), "refused")
        note(self.request, Act(Event.SIGN_IN, why), _known_name(self.request))
        return self._refused(FAILED, 401)

    def _refused(self, why: str, status: int) -> HttpResponse:
        context = self.get_context_data(form=AuthenticationForm(self.request), refusal=why)
        return self.render_to_response(context, status=status)


class NotedLogoutView(LogoutView):
    """Logs analysts out, and notes who it was."""

    def post(self, request: HttpRequest, *args: str, **kwargs: str) -> HttpResponse:
        """End the session."""
        if request.user.is_authenticated:
            note(request, Act(Event.SIGN_OUT, DONE))
        return super().post(request, *args, **kwargs)


def _typed_name(request: HttpRequest) -> str:
    # Blanks go first, as in Django's form: else they push a name out of what is counted.
    return request.POST.get("username", "").strip()[:200]


def _known_name(request: HttpRequest) -> str:
    """Return the name of the user that was meant; none where no user has it."""
    wanted = User.normalize_username(_typed_name(request).strip())
    user = User.objects.filter(username__iexact=wanted).first()
    return user.get_username() if user else ""
