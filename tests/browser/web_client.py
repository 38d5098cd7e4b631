"""A minimal browser without a screen: cookies, forms and their tokens, over real HTTP."""

from __future__ import annotations

import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request

_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
_TIMEOUT_S = 20.0


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: its status is the answer."""

    def redirect_request(self, *_: object) -> None:
        """Return no other request."""


class WebClient:
    """One user of a console.

    Args:
        address: Where the console is.

    Attributes:
        page: What the last form was answered with.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(cookies, _StayHere)
        self._token = ""
        self.page = ""

    def log_in(self, name: str, password: str) -> None:
        """Log in."""
        self.get("/login")
        assert self.post("/login", {"username": name, "password": password}) == 302

    def get(self, path: str) -> str:
        """Return a page, and remember its form's token."""
        with self._opener.open(self._address + path, timeout=_TIMEOUT_S) as answer:
            text: str = answer.read().decode()
        found = _TOKEN.search(text)
        self._token = found.group(1) if found else self._token
        return text

    def post(self, path: str, form: dict[str, str]) -> int:
        """Send a form with the token of the last page; return the status of the answer."""
        fields = urllib.parse.urlencode({**form, "csrfmiddlewaretoken": self._token})
        try:
            with self._opener.open(
                self._address + path, fields.encode(), timeout=_TIMEOUT_S
            ) as answer:
                self.page = answer.read().decode()
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            self.page = refusal.read().decode()
            return refusal.code

    def settle(self, alert_id: str, disposition: str) -> int:
        """Open an alert and settle it."""
        self.get(f"/alerts/{alert_id}")
        return self.post(f"/alerts/{alert_id}/settle", {"disposition": disposition, "version": "0"})
