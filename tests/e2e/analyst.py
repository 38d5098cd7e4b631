"""An analyst at the console's pages, over HTTP, without a browser."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar

_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
_ALERT = re.compile(r"/alerts/([0-9a-f]{32})")
_VERSION = re.compile(r'name="version" value="([0-9]+)"')


class Analyst:
    """One logged-in person.

    Args:
        address: The console's address, with a slash at its end.
        name: User name.
        password: Password.
    """

    def __init__(self, address: str, name: str, password: str) -> None:
        self._address = address.rstrip("/")
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(cookies)
        token = _find(_TOKEN, self.read("/login"))
        self._post("/login", {"username": name, "password": password}, token)

    def queue(self) -> list[str]:
        """Return the ids of the alerts that the queue page shows, in its order."""
        return list(dict.fromkeys(_ALERT.findall(self.read("/"))))

    def settle(self, alert_id: str, disposition: str) -> None:
        """Settle an alert by the buttons of its page."""
        page = self.read(f"/alerts/{alert_id}")
        fields = {"disposition": disposition, "version": _find(_VERSION, page)}
        self._post(f"/alerts/{alert_id}/settle", fields, _find(_TOKEN, page))

    def read(self, path: str) -> str:
        """Return a page."""
        with self._opener.open(self._address + path, timeout=10) as answer:
            return str(answer.read().decode())

    def _post(self, path: str, fields: dict[str, str], token: str) -> None:
        body = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": token}).encode()
        request = urllib.request.Request(  # noqa: S310  # loopback, http
            self._address + path, body, {"Referer": self._address + path}
        )
        with self._opener.open(request, timeout=10) as answer:
            assert answer.status == 200


def _find(pattern: re.Pattern[str], page: str) -> str:
    found = pattern.search(page)
    assert found is not None, f"no {pattern.pattern} in the page: {page[:300]}"
    return found.group(1)
