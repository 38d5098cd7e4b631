"""Bounds on guesses, in the database that all workers share.

A guess is counted before the password is looked at, in one transaction with the question whether
it may be made, so that twenty at once are no more than five. Names are compared as Django compares
them (NFKC) and without case. Names and addresses are stored hashed; whether a name exists changes
nothing.

A browser that has signed in, by all steps, keeps a signed cookie until the password is another. Its
guesses count for that browser alone, and those of strangers never lock it: who knows a name, or
sits behind a bank's address, can keep strangers out for half an hour, and nobody else (OWASP,
"device cookies"). PCI DSS 8.3.4 asks for at most 10 guesses and a lock of 30 minutes: 5 of
strangers and 5 of the browser.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from fraudstream.runtime.address_blocks import block_of
from services.console.models import Account, GuessCounter

LOCK_MS: Final = 30 * 60 * 1000
MAX_BY_NAME: Final = 5
MAX_BY_BROWSER: Final = 5
MAX_BY_CODE: Final = 5
# A whole office behind one address, whose browsers are new to us.
MAX_BY_ADDRESS: Final = 50
# Refused guesses that the trail is told of, so that a stranger fills no disk with them.
MAX_TOLD: Final = 5

_COOKIE_DAYS: Final = 180
_COOKIE_SALT: Final = "fraudstream console browser"
# Analysts who share one machine: more push the oldest out.
_MAX_NAMES: Final = 5


class Guesses(NamedTuple):
    """What one guess counts for.

    Attributes:
        key: Hash of the kind and of who or what it is.
        most: How many may fail within the lock's time.
    """

    key: str
    most: int


class Taken(NamedTuple):
    """What became of a guess.

    Attributes:
        may_be_made: Whether the password, or the code, may be looked at.
        is_told: Whether the trail is told where it may not.
    """

    may_be_made: bool
    is_told: bool = True


def guesses_of(request: HttpRequest, name: str, address: str) -> tuple[Guesses, ...]:
    """Return what a guess at a name counts for: a known browser, else name and address."""
    browser = _browsers(request).get(_name_hash(name), "")
    if _is_of_present_password(browser, name):
        return (Guesses(_hash("browser", browser), MAX_BY_BROWSER),)
    return (
        Guesses(_hash("name", _name_hash(name)), MAX_BY_NAME),
        Guesses(_hash("address", block_of(address)), MAX_BY_ADDRESS),
    )


def code_guesses_of(name: str) -> tuple[Guesses, ...]:
    """Return what a guess at a user's code counts for."""
    return (Guesses(_hash("code", _name_hash(name)), MAX_BY_CODE),)


def take_guess(guesses: Sequence[Guesses], now_ms: int) -> Taken:
    """Count a guess that is about to be made; where none may be made, only that it was tried."""
    most = {each.key: each.most for each in guesses}
    with transaction.atomic():
        GuessCounter.objects.filter(failed_at_ms__lte=now_ms - LOCK_MS).delete()
        known = GuessCounter.objects.select_for_update().filter(key__in=list(most)).order_by("key")
        if (refused := _refused(known, most)) is not None:
            return refused
        # Made only now: names that nobody has leave no rows behind an address that is full.
        counters = [_counter(each.key, now_ms) for each in sorted(guesses)]
        if (refused := _refused(counters, most)) is not None:
            return refused
        for counter in counters:
            counter.failures += 1
            counter.failed_at_ms = now_ms
            counter.save()
    return Taken(may_be_made=True)


def _refused(counters: Iterable[GuessCounter], most: Mapping[str, int]) -> Taken | None:
    """Refuse a guess where a counter is full; the time of its last guess stays."""
    full = [counter for counter in counters if counter.failures >= most[counter.key]]
    for counter in full:
        counter.failures = min(counter.failures + 1, most[counter.key] + MAX_TOLD + 1)
        counter.save()
    if not full:
        return None
    return Taken(
        may_be_made=False,
        is_told=all(counter.failures <= most[counter.key] + MAX_TOLD for counter in full),
    )


def forgive_guess(guesses: Sequence[Guesses]) -> None:
    """Take back a guess that was right: of an address that one alone, of the others all.

    The failures of a stranger at the same address stay counted.
    """
    for each in guesses:
        with transaction.atomic():
            found = GuessCounter.objects.select_for_update().filter(key=each.key)
            for counter in found:
                is_shared = each.most == MAX_BY_ADDRESS
                counter.failures = min(counter.failures, each.most) - 1 if is_shared else 0
                counter.save()


def forget_name(name: str) -> None:
    """Unlock a name for strangers' browsers, and its code."""
    keys = (_hash("name", _name_hash(name)), _hash("code", _name_hash(name)))
    GuessCounter.objects.filter(key__in=keys).delete()


def know_browser(request: HttpRequest, response: HttpResponse, account: Account) -> None:
    """Give a browser whose user has passed every step of a login the cookie that says so."""
    name = account.user.get_username()
    known = _browsers(request)
    known.pop(_name_hash(name), None)
    kept = dict(list(known.items())[1 - _MAX_NAMES :])
    kept[_name_hash(name)] = f"{account.password_set_at_ms}.{secrets.token_hex(16)}"
    response.set_cookie(
        _cookie_name(),
        signing.dumps(kept, salt=_COOKIE_SALT),
        max_age=_COOKIE_DAYS * 86_400,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )


def _browsers(request: HttpRequest) -> dict[str, str]:
    """Return which names have signed in with this browser.

    Hash of the name to the time when its password was set, a dot, and a random id.
    """
    content = request.COOKIES.get(_cookie_name(), "")
    try:
        found: dict[str, str] = signing.loads(
            content, salt=_COOKIE_SALT, max_age=_COOKIE_DAYS * 86_400
        )
    except signing.BadSignature:
        return {}
    return found


def _is_of_present_password(browser: str, name: str) -> bool:
    """Return whether a browser signed in with the password of now: an older one opens nothing."""
    set_at_ms, dot, _ = browser.partition(".")
    if not dot:
        return False
    wanted = User.normalize_username(name.strip())
    return Account.objects.filter(
        user__username__iexact=wanted, password_set_at_ms=int(set_at_ms)
    ).exists()


def _cookie_name() -> str:
    return str(settings.SESSION_COOKIE_NAME).replace("session", "browser")


def _counter(key: str, now_ms: int) -> GuessCounter:
    """Return the counter of a key, locked until the transaction ends."""
    counter, _ = GuessCounter.objects.select_for_update().get_or_create(
        key=key, defaults={"failures": 0, "failed_at_ms": now_ms}
    )
    return counter


def _name_hash(name: str) -> str:
    return _hash("user", unicodedata.normalize("NFKC", name).strip().casefold())


def _hash(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind}\x1f{text}".encode(errors="replace")).hexdigest()
