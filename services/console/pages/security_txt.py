"""Where a weakness is reported: `/.well-known/security.txt` (RFC 9116), open to everyone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from services.console.runtime import runtime_of

# RFC 9116 asks for less than a year, so that an address of long ago is not trusted.
_GOOD_FOR_S: Final = 30 * 86_400


@login_not_required
@require_safe
def show_security_txt(request: HttpRequest) -> HttpResponse:
    """Show the operator's address; 404 where none is set."""
    runtime = runtime_of(request)
    if not runtime.security_contact:
        raise Http404
    ends = datetime.fromtimestamp(runtime.clock_ms() // 1000 + _GOOD_FOR_S, UTC)
    lines = (f"Contact: {runtime.security_contact}", f"Expires: {ends:%Y-%m-%dT%H:%M:%SZ}", "")
    return HttpResponse("\n".join(lines), content_type="text/plain; charset=utf-8")
