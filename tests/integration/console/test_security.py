"""What the console refuses, and what it sends with every page."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import pytest

from services.console.runtime import ENVIRON_KEY, Runtime
from tests.browser.console_tables import NOW_MS, FakeClock, clear_tables, new_browser

if TYPE_CHECKING:
    from django.test import Client

PASSWORD = f"{secrets.token_urlsafe(16)}-a1"
LOGIN = {"username": "ada", "password": PASSWORD}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stranger(clock: FakeClock) -> Client:
    """A browser that has not logged in, and no user but those that a test makes."""
    clear_tables()
    return new_browser(Runtime(clock_ms=clock))


@pytest.fixture
def ada(stranger: Client) -> str:
    """A user with a password."""
    from services.console.sign_in.users import create_user

    create_user("ada", PASSWORD, NOW_MS, is_first=False)
    return "ada"


@pytest.fixture
def analyst(stranger: Client) -> Client:
    """A browser of somebody who has logged in, without the slow check of a password."""
    from django.contrib.auth.models import User

    stranger.force_login(User.objects.create(username="grace"))
    return stranger


def test_every_page_carries_the_security_headers(analyst: Client) -> None:
    """No inline script or style, no framing, no caching, no sniffing."""
    headers = analyst.get("/").headers

    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(analyst: Client) -> None:
    """Both cookies are HttpOnly and SameSite=Strict."""
    analyst.get("/")

    for name in ("session", "csrf"):
        cookie = analyst.cookies[name]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"


def test_logging_in_changes_the_session_and_logging_out_ends_it(stranger: Client, ada: str) -> None:
    """A session id from before the login is worth nothing, and neither is one from after."""
    stranger.get("/login")
    stranger.cookies["session"] = "planted"
    stranger.post("/login", LOGIN)
    kept = stranger.cookies["session"].value

    stranger.post("/logout")
    stranger.cookies["session"] = kept

    assert kept != "planted"
    assert stranger.get("/").status_code == 302


def test_the_sixth_try_is_refused_even_with_the_right_password(
    stranger: Client, ada: str, clock: FakeClock
) -> None:
    """After five failures a name waits, and is let in again when they are old."""
    statuses = [
        stranger.post("/login", {"username": "ada", "password": "wrong"}).status_code
        for _ in range(5)
    ]

    refused = stranger.post("/login", LOGIN)
    clock.now_ms += 30 * 60 * 1000
    admitted = stranger.post("/login", LOGIN)

    assert statuses == [401] * 5
    assert (refused.status_code, admitted.status_code) == (429, 302)


def test_a_failed_login_does_not_say_which_names_exist(stranger: Client, ada: str) -> None:
    """A wrong password and an unknown name are answered alike."""
    answers = [
        stranger.post("/login", {"username": name, "password": "wrong"}) for name in (ada, "eve")
    ]

    token = re.compile(r'csrfmiddlewaretoken" value="[^"]+"')
    pages = [token.sub("", answer.content.decode()) for answer in answers]
    assert pages[0] == pages[1]
    assert [answer.status_code for answer in answers] == [401, 401]


def test_login_sends_nobody_to_another_site(stranger: Client, ada: str) -> None:
    """`next` is followed only within this site."""
    answer = stranger.post("/login", {**LOGIN, "next": "//evil.example/"})

    assert answer.headers["Location"] == "/"


def test_login_leads_to_a_page_of_ours_and_repeats_no_other(stranger: Client, ada: str) -> None:
    """What was asked for before it may be anything, also a card number."""
    page = stranger.post("/login", {"username": ada, "password": "", "next": "/4988"})
    answer = stranger.post("/login", {**LOGIN, "next": f"/alerts/{'a' * 32}"})

    assert "4988" not in page.content.decode()
    assert answer.headers["Location"] == f"/alerts/{'a' * 32}"


def test_an_unknown_host_is_refused(analyst: Client) -> None:
    """A Host header that is not ours, or a forwarded one, changes nothing."""
    assert analyst.get("/", headers={"host": "evil.example"}).status_code == 400
    assert analyst.get("/", headers={"x-forwarded-host": "evil.example"}).status_code == 200


def test_a_card_number_is_not_searched_for(analyst: Client) -> None:
    """The server refuses what the page would not have sent, and does not repeat it."""
    pan = "4" + "0" * 14 + "2"

    answer = analyst.post("/search", {"q": f"card {pan}"})

    assert answer.status_code == 422
    assert pan not in answer.content.decode()


@pytest.mark.parametrize("wanted", ["' OR 1=1 --", "%00", "(a+)+$", "%"])
def test_a_hostile_search_finds_nothing(analyst: Client, wanted: str) -> None:
    """What is typed is compared, never interpreted."""
    answer = analyst.post("/search", {"q": wanted})

    assert answer.status_code == 200
    assert "No alert has this id" in answer.content.decode()


def test_a_body_over_the_bound_is_refused(analyst: Client) -> None:
    """64 KiB is more than any form here needs."""
    assert analyst.post("/search", {"q": "x" * 70_000}).status_code == 413


def test_get_settles_nothing(analyst: Client) -> None:
    """Only a form that posts can settle, search or log out."""
    for path in (f"/alerts/{'a' * 32}/settle", "/search", "/logout"):
        assert analyst.get(path).status_code == 405


def test_an_unknown_disposition_is_refused(analyst: Client) -> None:
    """Dispositions are taken from a list."""
    answer = analyst.post(
        f"/alerts/{'a' * 32}/settle", {"disposition": "false_positive", "version": "0"}
    )

    assert answer.status_code == 400


def test_who_found_a_weakness_is_told_where_to_report_it(
    stranger: Client, clock: FakeClock
) -> None:
    """RFC 9116, without a login; a console without an address has no such page."""
    runtime = Runtime(clock_ms=clock, security_contact="mailto:security@bank.example")
    assert stranger.get("/.well-known/security.txt").status_code == 404

    vars(stranger)["defaults"][ENVIRON_KEY] = runtime
    shown = stranger.get("/.well-known/security.txt")

    assert shown.content.decode().splitlines() == [
        "Contact: mailto:security@bank.example",
        "Expires: 2026-10-21T14:13:20Z",
    ]
