"""The login page: Django's, with throttling in front of the password check."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse

from services.console.login_throttle import forget_failures, is_throttled, record_failure
from services.console.runtime import runtime_of

FAILED: Final = "Name and password do not match an account."
THROTTLED: Final = "Too many failed logins. Wait 15 minutes, then try again."


class ThrottledLoginView(LoginView):
    """Logs analysts in. A name or address that failed too often waits, whether or not it exists."""

    template_name = "console/login.html"
    redirect_authenticated_user = True
    next_page = "queue"

    def post(self, request: HttpRequest, *args: str, **kwargs: str) -> HttpResponse:
        """Check the throttle, then the password."""
        name, address = _who(request)
        if is_throttled(name, address, runtime_of(request).clock_ms()):
            return self._refused(THROTTLED, 429)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Log in: Django gives the session a new key."""
        forget_failures(*_who(self.request))
        return super().form_valid(form)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Count the failure and say the same for every cause."""
        del form
        name, address = _who(self.request)
        record_failure(name, address, runtime_of(self.request).clock_ms())
        return self._refused(FAILED, 401)

    def _refused(self, why: str, status: int) -> HttpResponse:
        context = self.get_context_data(form=AuthenticationForm(self.request), refusal=why)
        return self.render_to_response(context, status=status)


def _who(request: HttpRequest) -> tuple[str, str]:
    """Return the typed name and the address of the peer. No forwarded header is believed."""
    return request.POST.get("username", ""), request.META.get("REMOTE_ADDR", "")
