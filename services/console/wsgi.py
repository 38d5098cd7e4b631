"""The web application: probes answered at once, everything else by Django.

Probes come by address, without a login and with any Host, so they are answered before Django.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from django.core.wsgi import get_wsgi_application
from django.db import DatabaseError, connection

from services.console.runtime import ENVIRON_KEY, Runtime

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

LIVE_PATH: Final = "/livez"
READY_PATH: Final = "/readyz"


class ConsoleApplication:
    """WSGI application that gives each request the runtime.

    Args:
        runtime: What pages need besides the database.
        silent_loops: Names of the background loops that do not run.
    """

    def __init__(self, runtime: Runtime, silent_loops: Callable[[], list[str]]) -> None:
        self._runtime = runtime
        self._silent_loops = silent_loops
        self._django = get_wsgi_application()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO")
        if path == LIVE_PATH:
            return _answer(start_response, [])
        if path == READY_PATH:
            return _answer(start_response, self._faults())
        environ[ENVIRON_KEY] = self._runtime
        return self._django(environ, start_response)

    def _faults(self) -> list[str]:
        """Return what keeps analysts from working. A broker that is away does not."""
        faults = self._silent_loops()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM alert LIMIT 1")
        except DatabaseError:
            faults.append("database")
        finally:
            connection.close_if_unusable_or_obsolete()
        return faults


def _answer(start_response: StartResponse, faults: list[str]) -> list[bytes]:
    """Answer a probe: 200, or 503 with what is wrong."""
    body = json.dumps({"ok": not faults, "faults": faults}).encode()
    start_response(
        "503 Service Unavailable" if faults else "200 OK",
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ],
    )
    return [body]
