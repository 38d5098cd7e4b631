"""What a browser sent, as text that any database takes.

PostgreSQL takes no NUL: one in a login's name, in a search or in a cookie was a page of status 500.
A sign that nobody types stands for each control character, as Django has it for bytes that are no
UTF-8, so that the text fits no name, no id and no session.
"""

from __future__ import annotations

import re
from typing import Final

from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase

from services.console.web.middleware import View

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_STAND_IN: Final = "\ufffd"


def plain_text(text: str) -> str:
    r"""Return a text with a replacement character for each control character.

    >>> plain_text("ada"), plain_text("ada\0").encode()
    ('ada', b'ada\xef\xbf\xbd')
    """
    return _CONTROLS.sub(_STAND_IN, text)


def take_plain_text(view: View) -> View:
    """Give pages the query, the form and the cookies as plain text."""

    def taken(request: HttpRequest) -> HttpResponseBase:
        try:
            query, form = _plain(request.GET), _plain(request.POST)
        except OSError:
            return HttpResponse("Body not whole", status=400, content_type="text/plain")
        request.GET = query  # type: ignore[assignment]  # the stubs know immutable ones only
        request.POST = form  # type: ignore[assignment]  # as above
        request.COOKIES = {name: plain_text(text) for name, text in request.COOKIES.items()}
        return view(request)

    return taken


def _plain(given: QueryDict) -> QueryDict:
    kept = QueryDict(mutable=True)
    for name, texts in given.lists():
        kept.setlist(plain_text(name), [plain_text(str(text)) for text in texts])
    return kept
