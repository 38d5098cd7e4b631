"""Signing in: guesses, passwords, codes, and the trail of who did what."""

from __future__ import annotations

import secrets
import threading
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from fraudstream.topics import DAY_MS
from services.console.runtime import ENVIRON_KEY, Runtime
from services.console.sign_in_policy import SignInPolicy
from tests.browser.console_tables import NOW_MS, FakeClock, clear_tables, new_browser

if TYPE_CHECKING:
    from django.test import Client

FIRST = f"{secrets.token_hex(8)}-first1"
CHOSEN = f"{secrets.token_hex(8)}-chosen2"
INSIDE = (ip_network("10.0.0.0/8"),)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def _tables() -> None:
    clear_tables()


def browser(clock: FakeClock, policy: SignInPolicy | None = None) -> Client:
    """A browser that has never been here."""
    return new_browser(Runtime(clock_ms=clock, policy=policy or SignInPolicy()))


def make_user(*, is_first: bool = False) -> None:
    from services.console.sign_in.users import create_user

    create_user("ada", FIRST, NOW_MS, is_first=is_first)


def sign_in(client: Client, password: str, name: str = "ada", **headers: str) -> int:
    return client.post(
        "/login", {"username": name, "password": password}, headers=headers
    ).status_code


def present_code() -> str:
    """The code that ada's authenticator shows now."""
    from django_otp.oath import TOTP  # type: ignore[import-untyped]  # ships no types
    from django_otp.plugins.otp_totp.models import TOTPDevice  # type: ignore[import-untyped]  # ships no types

    device = TOTPDevice.objects.get(user__username="ada")
    # A step on from the last that was used: each is right once.
    made = TOTP(device.bin_key, device.step, device.t0, device.digits)
    made.time = max(time.time(), (device.last_t + 1) * device.step)
    return f"{made.token():06d}"


def test_a_first_password_is_changed_at_the_first_login(clock: FakeClock) -> None:
    """What the operator knows opens nothing but the page that asks for another one."""
    make_user(is_first=True)
    ada = browser(clock)

    assert sign_in(ada, FIRST) == 302
    assert ada.get("/").headers["Location"] == "/password"
    assert ada.get("/search").headers["Location"] == "/password"
    form = {"old_password": FIRST, "new_password1": CHOSEN, "new_password2": CHOSEN}
    assert ada.post("/password", form).headers["Location"] == "/"
    assert ada.get("/").status_code == 200


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("a1" * 8, "no text over and over"),
        ("abcdefghijkl", "one letter and one digit"),
        ("aaaaaaaaaaa1", "6 different characters"),
        ("short1", "too short"),
        (FIRST, "one of the last 4"),
    ],
    ids=["repeated", "no digit", "five marks", "short", "former"],
)
def test_a_password_that_will_not_do_is_refused_with_the_rule(
    clock: FakeClock, wanted: str, why: str
) -> None:
    """PCI DSS 8.3.6 and 8.3.7."""
    make_user()
    ada = browser(clock)
    sign_in(ada, FIRST)

    answer = ada.post(
        "/password", {"old_password": FIRST, "new_password1": wanted, "new_password2": wanted}
    )

    assert answer.status_code == 400
    assert why in answer.content.decode()


def test_an_old_password_is_changed_at_the_next_login(clock: FakeClock) -> None:
    """After 90 days the queue is closed until there is another."""
    make_user()
    ada = browser(clock)
    sign_in(ada, FIRST)
    clock.now_ms += 60 * DAY_MS
    sign_in(ada, FIRST)
    clock.now_ms += 31 * DAY_MS

    assert ada.get("/").headers["Location"] == "/password"


def test_an_account_that_nobody_used_is_closed(clock: FakeClock) -> None:
    """Right password or not, after 90 days an operator has to open it."""
    from django.contrib.auth.models import User

    from services.console.sign_in.users import set_enabled

    make_user()
    clock.now_ms += 91 * DAY_MS

    assert sign_in(browser(clock), FIRST) == 401
    set_enabled(User.objects.get(username="ada"), is_enabled=True, now_ms=clock.now_ms)
    assert sign_in(browser(clock), FIRST) == 302


def test_a_code_follows_the_password_where_it_is_demanded(clock: FakeClock) -> None:
    """The first code sets the authenticator up; later logins open nothing without one."""
    make_user()
    policy = SignInPolicy(needs_second_factor=True)
    first, second = browser(clock, policy), browser(clock, policy)
    sign_in(first, FIRST)
    assert first.get("/").headers["Location"] == "/second-factor"
    assert "<svg" in first.get("/second-factor").content.decode()
    assert first.post("/second-factor", {"code": present_code()}).headers["Location"] == "/"
    assert first.get("/").status_code == 200

    sign_in(second, FIRST)
    shown = second.get("/second-factor").content.decode()

    assert second.get("/").headers["Location"] == "/second-factor"
    assert "<svg" not in shown
    assert second.get("/password").headers["Location"] == "/second-factor"
    assert second.post("/second-factor", {"code": present_code()}).headers["Location"] == "/"
    assert second.get("/").status_code == 200


def test_a_code_is_right_once(clock: FakeClock) -> None:
    """Who looked over a shoulder comes too late."""
    make_user()
    policy = SignInPolicy(needs_second_factor=True)
    first, second = browser(clock, policy), browser(clock, policy)
    sign_in(first, FIRST)
    first.get("/second-factor")
    code = present_code()
    first.post("/second-factor", {"code": code})
    sign_in(second, FIRST)

    assert second.post("/second-factor", {"code": code}).status_code == 401


def test_a_key_that_a_stranger_saw_is_not_the_users(clock: FakeClock) -> None:
    """Who has a password before the user sets an authenticator up learns no code of it."""
    make_user()
    policy = SignInPolicy(needs_second_factor=True)
    stranger, user = browser(clock, policy), browser(clock, policy)
    pictures: list[str] = []
    for each in (stranger, user, stranger, user):
        if len(pictures) < 2:
            sign_in(each, FIRST)
        shown = each.get("/second-factor").content.decode()
        pictures.append(shown.partition("<svg")[2].partition("</svg>")[0])

    assert pictures[:2] == pictures[2:]
    assert "" != pictures[0] != pictures[1]


def test_codes_are_guessed_five_times(clock: FakeClock) -> None:
    """A million codes are few: the sixth guess waits, even where it is right."""
    make_user()
    ada = browser(clock, SignInPolicy(needs_second_factor=True))
    sign_in(ada, FIRST)
    ada.get("/second-factor")

    answers = [ada.post("/second-factor", {"code": "00000x"}).status_code for _ in range(5)]

    assert answers == [401] * 5
    assert ada.post("/second-factor", {"code": present_code()}).status_code == 429


def test_a_deleted_authenticator_ends_what_it_opened(clock: FakeClock) -> None:
    """After an operator's reset the user sets up another one."""
    from django.contrib.auth.models import User

    from services.console.sign_in.users import forget_second_factor

    make_user()
    ada = browser(clock, SignInPolicy(needs_second_factor=True))
    sign_in(ada, FIRST)
    ada.get("/second-factor")
    ada.post("/second-factor", {"code": present_code()})
    forget_second_factor(User.objects.get(username="ada"))

    assert ada.get("/").headers["Location"] == "/second-factor"


def test_a_spelling_is_no_other_name(clock: FakeClock) -> None:
    """Guesses at full-width and capital spellings count for the one user whom Django means."""
    make_user()
    spellings = ("\uff41da", "a\uff44a", "ad\uff41", "ADA", " ada")

    tried = [sign_in(browser(clock), "wrong", name) for name in spellings]

    assert tried == [401] * 5
    assert sign_in(browser(clock), FIRST) == 429
    clock.now_ms += 30 * 60 * 1000
    assert sign_in(browser(clock), FIRST) == 302


def test_parallel_guesses_are_no_more_than_five(clock: FakeClock) -> None:
    """A guess is counted before it is made."""
    from django.db import connection

    make_user()
    statuses: list[int] = []

    def guess() -> None:
        statuses.append(sign_in(browser(clock), "wrong"))
        connection.close()

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [401] * 5 + [429] * 7


def test_strangers_lock_no_browser_that_is_known(clock: FakeClock) -> None:
    """Guesses at a name keep other strangers out, never the analyst at the usual desk."""
    make_user()
    writer, stranger = browser(clock), browser(clock)
    sign_in(writer, FIRST)
    writer.post("/logout")

    for _ in range(6):
        sign_in(stranger, "wrong")

    assert sign_in(stranger, FIRST) == 429
    assert sign_in(writer, FIRST) == 302


def test_a_known_browser_has_five_guesses_too(clock: FakeClock) -> None:
    """With the five of strangers that makes ten, as PCI DSS 8.3.4 allows."""
    make_user()
    writer = browser(clock)
    sign_in(writer, FIRST)
    writer.post("/logout")

    assert [sign_in(writer, "wrong") for _ in range(5)] == [401] * 5
    assert sign_in(writer, FIRST) == 429


def test_a_new_password_ends_what_browsers_were_known_for(clock: FakeClock) -> None:
    """Who had the old one has no more guesses at the new one than any stranger."""
    from services.console.sign_in.users import create_user

    make_user()
    former = [browser(clock) for _ in range(3)]
    for each in former:
        sign_in(each, FIRST)
        each.post("/logout")
    clock.now_ms += 1
    create_user("ada", CHOSEN, clock.now_ms, is_first=False)

    tried = [sign_in(each, "wrong") for each in former for _ in range(3)]

    assert tried == [401] * 5 + [429] * 4


def test_a_password_that_changes_during_a_login_makes_no_browser_known(clock: FakeClock) -> None:
    """The old one was right when it was looked at: its browser is none of the new one's."""
    from django.contrib.auth.models import User
    from django.http import HttpResponse
    from django.test import RequestFactory

    from services.console.sign_in.steps import end_step
    from services.console.sign_in.users import create_user

    make_user()
    runtime = Runtime(clock_ms=clock, policy=SignInPolicy())
    request = RequestFactory().post("/login")
    request.META[ENVIRON_KEY] = runtime
    request.user = User.objects.get(username="ada")
    create_user("ada", CHOSEN, clock.now_ms + 1, is_first=False)

    assert not end_step(request, HttpResponse()).cookies


def test_who_changes_a_password_stays_known(clock: FakeClock) -> None:
    """The browser of the change is one of the new password, and strangers do not lock it."""
    make_user()
    writer = browser(clock)
    sign_in(writer, FIRST)
    clock.now_ms += 1
    writer.post(
        "/password", {"old_password": FIRST, "new_password1": CHOSEN, "new_password2": CHOSEN}
    )
    writer.post("/logout")
    for _ in range(6):
        sign_in(browser(clock), "wrong")

    assert sign_in(writer, CHOSEN) == 302


def test_a_password_without_its_code_makes_no_browser_known(clock: FakeClock) -> None:
    """A stolen password is one step of two; after the last one the browser is known."""
    make_user()
    ada = browser(clock, SignInPolicy(needs_second_factor=True))

    sign_in(ada, FIRST)
    known_before = "browser" in ada.cookies
    ada.get("/second-factor")
    ada.post("/second-factor", {"code": present_code()})

    assert not known_before
    assert "browser" in ada.cookies


def test_a_forged_browser_cookie_is_a_stranger(clock: FakeClock) -> None:
    """Only our signature makes a browser known."""
    make_user()
    stranger = browser(clock)
    stranger.cookies["browser"] = "eyJhIjoiYiJ9:1tfYQx:forged"

    for _ in range(5):
        sign_in(stranger, "wrong")

    assert sign_in(browser(clock), FIRST) == 429


def test_an_office_behind_a_trusted_proxy_is_not_one_address(clock: FakeClock) -> None:
    """The proxy says who calls; without trust in it nobody's word counts."""
    policy = SignInPolicy(trusted_proxies=INSIDE)

    def tries(client: Client, addresses: list[str]) -> list[int]:
        client.defaults["REMOTE_ADDR"] = "10.0.0.1"
        return [
            sign_in(client, "wrong", f"user-{number}", **{"X-Forwarded-For": address})
            for number, address in enumerate(addresses)
        ]

    one = tries(browser(clock, policy), ["198.51.100.7"] * 51)
    other = tries(browser(clock, policy), ["198.51.100.8"])
    untrusting = tries(browser(clock), [f"198.51.100.{number}" for number in range(51)])

    assert one[-1] == 429
    assert other == [401]
    assert untrusting[-1] == 429


def test_a_network_of_ipv6_is_one_address(clock: FakeClock) -> None:
    """A customer has 2^64 addresses; the trail has the one that was used."""
    from services.console.models import AuditEvent

    def tries(form: str, number: int) -> int:
        client = browser(clock)
        client.defaults["REMOTE_ADDR"] = form.format(number)
        return sign_in(client, "wrong", f"user-{number}")

    one = [tries("2001:db8:0:7:{:x}::1", number) for number in range(1, 52)]

    assert one == [401] * 50 + [429]
    assert tries("2001:db8:0:8::{:x}", 99) == 401
    mapped = [tries("::ffff:198.51.100.{}", number) for number in range(51)]
    assert mapped == [401] * 51
    origins = AuditEvent.objects.order_by("id").values_list("origin", flat=True)
    assert [origins[0], origins[60]] == ["2001:db8:0:7:1::1", "198.51.100.8"]


def test_a_session_from_before_the_code_opens_nothing_after_it(clock: FakeClock) -> None:
    """Who planted or saw it has a session that ended."""
    make_user()
    policy = SignInPolicy(needs_second_factor=True)
    ada, thief = browser(clock, policy), browser(clock, policy)
    sign_in(ada, FIRST)
    ada.get("/second-factor")
    thief.cookies["session"] = ada.cookies["session"].value
    ada.post("/second-factor", {"code": present_code()})

    assert ada.get("/").status_code == 200
    assert thief.get("/").headers["Location"].startswith("/login")


def test_the_trail_names_who_did_what_from_where(clock: FakeClock) -> None:
    """Sign-in, refusal, view, act and sign-out, each with user, origin and outcome."""
    from services.console.models import AuditEvent

    make_user()
    ada = browser(clock)
    sign_in(browser(clock), "a password typed as a name", "a password typed as a name")
    sign_in(ada, "wrong")
    sign_in(ada, FIRST)
    ada.get("/")
    ada.post("/search", {"q": "tx-1"})
    ada.post("/logout")

    rows = AuditEvent.objects.order_by("id").values_list("event", "who", "outcome", "origin")
    assert list(rows) == [
        ("sign_in", "", "refused", "127.0.0.1"),
        ("sign_in", "ada", "refused", "127.0.0.1"),
        ("sign_in", "ada", "done", "127.0.0.1"),
        ("queue_viewed", "ada", "done", "127.0.0.1"),
        ("searched", "ada", "0 found", "127.0.0.1"),
        ("sign_out", "ada", "done", "127.0.0.1"),
    ]


def test_a_stranger_fills_neither_trail_nor_tables(clock: FakeClock) -> None:
    """An address that is full leaves a few events of what it tries more, and no row for a name."""
    from services.console.models import AuditEvent, GuessCounter

    client = browser(clock)
    tried = [sign_in(client, "wrong", f"user-{number}") for number in range(100)]

    assert tried == [401] * 50 + [429] * 50
    events = AuditEvent.objects.values_list("outcome", flat=True)
    assert sorted(events) == ["refused"] * 50 + ["throttled"] * 5
    assert GuessCounter.objects.count() == 51


@pytest.mark.parametrize("damage", ["change", "remove", "insert"])
def test_a_trail_that_was_touched_no_longer_fits(clock: FakeClock, damage: str) -> None:
    """Each event holds the hash of the one before it."""
    from services.console import audit
    from services.console.models import AuditEvent

    for number in range(4):
        audit.append(audit.Act(audit.Event.SETTLED, "genuine", f"{number}"), number, "ada", "")
    assert all(fits for _, fits in audit.events())

    second = AuditEvent.objects.order_by("id")[1]
    if damage == "change":
        AuditEvent.objects.filter(id=second.id).update(who="eve")
    elif damage == "remove":
        second.delete()
    else:
        AuditEvent.objects.filter(id__gt=second.id).delete()
        AuditEvent.objects.create(at_ms=9, who="eve", event="settled", chain_hash="0" * 64)

    assert not all(fits for _, fits in audit.events())


def test_losses_beyond_any_bound_still_make_a_queue(clock: FakeClock) -> None:
    """Two alerts from before amounts were bounded do not close the desk."""
    from services.console.models import Alert

    for number in range(2):
        Alert.objects.create(
            alert_id=f"{number:032x}",
            payload=b"",
            action=1,
            score=0.5,
            amount_minor=1,
            expected_loss_minor=2**63 - 1,
            event_time_ms=NOW_MS,
            raised_at_ms=NOW_MS,
            stored_at_ms=NOW_MS,
        )
    make_user()
    ada = browser(clock)
    sign_in(ada, FIRST)

    assert ada.get("/").status_code == 200
