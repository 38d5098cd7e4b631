"""Users: made by an operator with a first password, changed by themselves; demo logins."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django_otp.plugins.otp_totp.models import TOTPDevice  # type: ignore[import-untyped]  # ships no types

from fraudstream.errors import InvalidSettings
from fraudstream.topics import DAY_MS
from services.console.models import Account, FormerPassword
from services.console.sign_in.password_rules import KEPT_FORMER
from services.console.sign_in.throttle import forget_name
from services.console.sign_in_policy import SignInPolicy

# Published on purpose: settings refuse them on any address that others can reach.
DEMO_LOGINS: Final = {"analyst": "analyst-demo", "colleague": "colleague-demo"}


def create_user(name: str, password: str, now_ms: int, *, is_first: bool = True) -> None:
    """Make a user, or give an existing one a new password.

    Args:
        name: Of the user.
        password: Which only the user and the operator know.
        now_ms: Epoch milliseconds.
        is_first: Whether the user must choose another one at the next sign-in (PCI DSS 8.3.5).

    Raises:
        InvalidSettings: The name or the password will not do.
    """
    known = User.objects.filter(username=name).first()
    candidate = known or User(username=name)
    try:
        candidate.clean_fields(exclude=["password"])
        validate_password(password, candidate)
    except ValidationError as exc:
        msg = f"user {name!r} was not made: {' '.join(exc.messages)}"
        raise InvalidSettings(msg) from exc
    candidate.save()
    set_password(candidate, password, now_ms, is_first=is_first)
    forget_name(name)


def create_demo_users(now_ms: int) -> None:
    """Make the demo logins, so that a laptop needs no preparation."""
    for name, password in DEMO_LOGINS.items():
        user, is_new = User.objects.get_or_create(username=name)
        if is_new:
            set_password(user, password, now_ms)
        # Published passwords protect nothing, so their age says nothing either.
        Account.objects.filter(user=user).update(password_set_at_ms=now_ms, signed_in_at_ms=now_ms)


def set_password(user: User, password: str, now_ms: int, *, is_first: bool = False) -> None:
    """Give a user a new password and remember the one before it."""
    with transaction.atomic():
        if user.password:
            FormerPassword.objects.create(user=user, password=user.password, set_at_ms=now_ms)
            kept = FormerPassword.objects.filter(user=user).order_by("-set_at_ms", "-id")
            ids = list(kept.values_list("id", flat=True)[:KEPT_FORMER])
            FormerPassword.objects.filter(user=user).exclude(id__in=ids).delete()
        user.set_password(password)
        user.save()
        account = account_of(user, now_ms)
        account.password_set_at_ms = now_ms
        account.must_change_password = is_first
        # A new password of the operator's is an account in use again.
        account.signed_in_at_ms = now_ms
        account.save()


def account_of(user: User, now_ms: int) -> Account:
    """Return what is known of a user's password; of one from before it was kept, from now on."""
    account, _ = Account.objects.get_or_create(
        user=user, defaults={"password_set_at_ms": now_ms, "signed_in_at_ms": now_ms}
    )
    return account


def is_abandoned(account: Account, policy: SignInPolicy, now_ms: int) -> bool:
    """Return whether nobody signed in to an account for too long (PCI DSS 8.2.6)."""
    return now_ms - account.signed_in_at_ms > policy.inactive_days * DAY_MS


def needs_new_password(account: Account, policy: SignInPolicy, now_ms: int) -> bool:
    """Return whether a password is an operator's, or too old (PCI DSS 8.3.9)."""
    age_ms = now_ms - account.password_set_at_ms
    return account.must_change_password or age_ms > policy.password_days * DAY_MS


def user_of(name: str) -> User:
    """Return a user.

    Raises:
        InvalidSettings: There is none of this name.
    """
    user = User.objects.filter(username=name).first()
    if user is None:
        raise InvalidSettings("no user has this name; `list-users` shows all")
    return user


def set_enabled(user: User, *, is_enabled: bool, now_ms: int) -> None:
    """Let a user sign in, or end all sessions and refuse them from now on."""
    user.is_active = is_enabled
    user.save()
    if is_enabled:
        Account.objects.filter(user=user).update(signed_in_at_ms=now_ms)


def forget_second_factor(user: User) -> None:
    """Have a user set up an authenticator again at the next sign-in."""
    TOTPDevice.objects.filter(user=user).delete()
