"""The console under requests that no browser makes, before each database that it knows."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Final

import pytest

from harness.servers import Broker
from tests.browser.console_server import ConsoleServer
from tests.browser.web_client import WebClient
from tests.servers.postgres_server import postgres_server

pytestmark = [pytest.mark.attack, pytest.mark.slow]

WRONG: Final = "not-the-password-1"
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
CONTROLS: Final = ("\0", "\1", "\x1f", "\x7f", "\x85")
ALERT: Final = f"/alerts/{'a' * 32}"
PAGES: Final = ("/", "/login", "/password", "/second-factor", ALERT, "/queue/newer?after=0", "/x")
POSTED: Final = ("/login", "/logout", "/search", "/password", "/second-factor", f"{ALERT}/settle")
# Ours, and what Django says of its forms.
NOT_KEPT: Final = ("no-store", "max-age=0, no-cache, no-store, must-revalidate, private")

# Method, path, headers: what no browser sends, and what one sends that somebody has changed.
ODD: Final[Mapping[str, tuple[str, str, Mapping[str, str]]]] = {
    "trace": ("TRACE", "/", {}),
    "put": ("PUT", "/login", FORM),
    "delete": ("DELETE", ALERT, {}),
    "no method of http": ("FOO", "/login", {}),
    "small letters": ("get", "/", {}),
    "another site's address": ("GET", "http://evil.example/", {}),
    "two slashes": ("GET", "//evil.example/", {}),
    "nul in the path": ("GET", "/alerts/%00", {}),
    "nul in a file's path": ("GET", "/static/%00.css", {}),
    "way up": ("GET", "/static/..%2f..%2fsettings.py", {}),
    "no utf-8": ("GET", "/%ff%fe?sort=%ff&page=%c0%80", {}),
    "nul in the query": ("GET", "/?sort=%00&page=%00", {}),
    "page below": ("GET", "/?page=-1", {}),
    "page beyond": ("GET", "/?page=99999999999999999999", {}),
    "page of other digits": ("GET", "/?page=%D9%A3", {}),
    "two pages": ("GET", "/?page=1&page=-1&sort=loss&sort=password", {}),
    "many fields": ("GET", "/?" + "a=1&" * 100, {}),
    "newer than nothing": ("GET", "/queue/newer?after=-1", {}),
    "newer of other digits": ("GET", "/queue/newer?after=%EF%BC%99", {}),
    "long address": ("GET", "/?q=" + "a" * 10_000, {}),
    "long header": ("GET", "/login", {"X-Note": "a" * 20_000}),
    "many headers": ("GET", "/login", {f"X-{number}": "a" for number in range(200)}),
    "another host": ("GET", "/", {"Host": "evil.example"}),
    "no host": ("GET", "/", {"Host": ""}),
    "the path in a header": ("GET", "/login", {"SCRIPT_NAME": "/login"}),
    "nul in a session": ("GET", "/", {"Cookie": 'session="' + "\\000" * 32 + '"'}),
    "nul in a token": ("GET", "/login", {"Cookie": 'csrf="' + "\\000" * 32 + '"'}),
    "cookie of no form": ("GET", "/login", {"Cookie": "a;;=;session;browser=:::;csrf=\xff"}),
    "a codec of bytes": ("GET", "/login?next=%41", {"Content-Type": "text/a; charset=base64"}),
    "half characters": (
        "POST",
        "/login?next=%5cud800",
        {"Content-Type": "multipart/form-data; boundary=b; charset=unicode_escape"},
    ),
    "a codec of nobody": ("GET", "/login", {"Content-Type": "text/a; b*=nope'en'%41"}),
    "length below": ("POST", "/login", {"Content-Length": "-1"}),
    "length of hexadecimal": ("POST", "/login", {"Content-Length": "0x0"}),
    "length of 5,000 digits": ("POST", "/login", {"Content-Length": "0" * 5_000}),
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def console(
    request: pytest.FixtureRequest, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConsoleServer]:
    """A console of its own, for its guesses are counted."""
    prefix = {"FRAUD_KAFKA_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}-"}
    folder = tmp_path_factory.mktemp("console")
    with ExitStack() as stack:
        server = ConsoleServer(broker.bootstrap, {**broker.environment(), **prefix}, folder)
        if request.param == "postgresql":
            port = stack.enter_context(postgres_server("console")).port
            url = f"postgresql://console@127.0.0.1:{port}/postgres"
            server.environment["FRAUD_CONSOLE_DATABASE_URL"] = url
        server.create_topics()
        server.process.start(90.0, more_environment=server.environment)
        yield server
        server.process.stop()


@pytest.fixture(scope="module")
def analyst(console: ConsoleServer) -> WebClient:
    """A browser of somebody who has logged in."""
    client = WebClient(console.address)
    client.log_in("analyst", "analyst-demo")
    client.get("/")
    return client


def status_of(console: ConsoleServer, method: str, path: str, headers: Mapping[str, str]) -> int:
    """Send one request; return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=20)
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, text in headers.items():
        connection.putheader(name, text.encode("latin-1"))
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def guess(console: ConsoleServer, name: str) -> int:
    """Try one password with a browser that is new here; return the status."""
    client = WebClient(console.address)
    client.get("/login")
    return client.post("/login", {"username": name, "password": WRONG})


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_request_is_refused_and_no_fault(
    console: ConsoleServer, odd: tuple[str, str, Mapping[str, str]]
) -> None:
    """Whatever a request is, it is no traceback: strangers fill no log with them."""
    assert status_of(console, *odd) < 500


def test_control_characters_in_a_login_are_a_wrong_login(console: ConsoleServer) -> None:
    """Refused as every other name, and counted: PostgreSQL raised at a NUL."""
    tried = [guess(console, f"ghost{mark}analyst") for mark in CONTROLS]
    assert tried == [401] * 5
    assert guess(console, "ghost\0analyst") == 429


@pytest.mark.parametrize("mark", CONTROLS, ids=ascii)
def test_control_characters_find_nothing(
    console: ConsoleServer, analyst: WebClient, mark: str
) -> None:
    """In what is searched for, in a disposition, in a code and in a password."""
    told = {
        "/search": {"q": f"a{mark}b"},
        f"{ALERT}/settle": {"disposition": f"genuine{mark}", "version": f"0{mark}"},
        "/second-factor": {"code": f"{mark}1"},
        "/password": {"old_password": mark, "new_password1": mark, "new_password2": mark},
    }
    answers = {path: analyst.post(path, form) for path, form in told.items()}
    assert answers.pop("/search") == 200
    assert all(400 <= status < 500 for status in answers.values()), answers


def test_no_command_fails_at_half_a_character(console: ConsoleServer) -> None:
    """A name of the command line that is no UTF-8 is refused as a command is."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.console", "change-user", b"ada\xff", "unlock"],
        env={**os.environ, **console.environment},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == os.EX_USAGE
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize("path", POSTED)
def test_no_form_of_another_site_is_taken(console: ConsoleServer, path: str) -> None:
    """Without the token of one of our pages, or with one that is made up, nothing is done."""
    foreign = http.client.HTTPConnection("127.0.0.1", console.port, timeout=20)
    for token in ("", "a" * 64):
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": token, "q": "a", "code": "1"})
        foreign.request("POST", path, body, FORM | {"Cookie": f"csrf={'b' * 32}"})
        answer = foreign.getresponse()
        answer.read()
        assert answer.status == 403


@pytest.mark.parametrize("path", PAGES)
def test_no_cache_keeps_a_page(console: ConsoleServer, path: str) -> None:
    """Whatever its status."""
    connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.headers["Cache-Control"] in NOT_KEPT


def test_nothing_that_a_stranger_wrote_is_in_the_log(console: ConsoleServer) -> None:
    """Gunicorn repeats a request line that is none; it is anything, a card number too."""
    words = "four-nine-eight-eight"
    status_of(console, f"<{words}>", "/", {})
    status_of(console, "GET", "/", {f"<{words}>": "a"})
    assert words not in console.process.log_text()


def test_pages_of_https_say_so_behind_any_proxy(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a header says of scheme and path: a proxy passes on what a browser sent."""
    prefix = {"FRAUD_KAFKA_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:8]}-"}
    folder = tmp_path_factory.mktemp("https")
    server = ConsoleServer(broker.bootstrap, {**broker.environment(), **prefix}, folder)
    server.create_topics()
    server.process.start(90.0, more_environment={"FRAUD_CONSOLE_IS_HTTPS": "true"})
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        claims = {"SCRIPT_NAME": "/login", "X-Forwarded-Proto": "http"}
        connection.request("GET", "/login", headers=claims)
        answer = connection.getresponse()
        page = answer.read().decode()
    finally:
        server.process.stop()

    assert answer.status == 200
    assert "max-age=31536000" in answer.headers["Strict-Transport-Security"]
    assert "__Host-csrf" in str(answer.headers["Set-Cookie"])
    assert 'action="/login"' in page


def test_the_console_still_works(console: ConsoleServer, analyst: WebClient) -> None:
    """After all of it, and its log has no traceback."""
    assert "No open alerts" in analyst.get("/")
    assert "Traceback" not in console.process.log_text()
