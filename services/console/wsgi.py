"""The web application: probes answered at once, everything else by Django.

Probes come by address, without a login and with any Host, so they are answered before Django.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from django.core.wsgi import get_wsgi_application
from django.db import DatabaseError, connection

from services.console.runtime import ENVIRON_KEY, Runtime
from services.console.streams import Streams

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

LIVE_PATH: Final = "/livez"
READY_PATH: Final = "/readyz"
# What a page's form is sent as. Django would read it, and the query, by any codec that is named.
_FORM: Final = re.compile(
    r"(application/x-www-form-urlencoded(;[ \t]*charset=utf-8)?)?", re.IGNORECASE
)


class ConsoleApplication:
    """WSGI application that gives each request the runtime.

    Args:
        runtime: What pages need besides the database.
        streams: The background loops.
        scheme: By which browsers come, whatever the proxy in front speaks to us.
    """

    def __init__(self, runtime: Runtime, streams: Streams, scheme: str = "http") -> None:
        self._runtime = runtime
        self._streams = streams
        self._scheme = scheme
        self._django = get_wsgi_application()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO")
        if path == LIVE_PATH:
            return _answer(start_response, [], [])
        if path == READY_PATH:
            return _answer(start_response, self._faults(), self._streams.waiting())
        if not _FORM.fullmatch(environ.get("CONTENT_TYPE", "")):
            return _refuse_form(start_response)
        environ[ENVIRON_KEY] = self._runtime
        environ["wsgi.url_scheme"] = self._scheme
        return self._django(environ, start_response)

    def _faults(self) -> list[str]:
        """Return what keeps analysts from working, such as a database that stores no alert.

        A broker that is away does not: what is stored can be settled, and labels wait.
        """
        faults = self._streams.faults()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM alert LIMIT 1")
        except DatabaseError as exc:
            faults.append(f"database: {str(exc).partition(chr(10))[0]}")
        finally:
            connection.close_if_unusable_or_obsolete()
        return faults


def _answer(start_response: StartResponse, faults: list[str], waiting: list[str]) -> list[bytes]:
    """Answer a probe: 200, or 503 with what is wrong; what waits for the broker is no fault."""
    body = json.dumps({"ok": not faults, "faults": faults, "waiting": waiting})
    status = "503 Service Unavailable" if faults else "200 OK"
    return _send(start_response, status, "application/json", body)


def _refuse_form(start_response: StartResponse) -> list[bytes]:
    said = "expected application/x-www-form-urlencoded in UTF-8"
    return _send(start_response, "415 Unsupported Media Type", "text/plain", said)


def _send(start_response: StartResponse, status: str, kind: str, text: str) -> list[bytes]:
    body = text.encode()
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response(status, headers)
    return [body]
