"""Users: made by an operator with a password from a file or stdin; demo logins for a laptop."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from fraudstream.errors import InvalidSettings

# Published on purpose: settings refuse them on any address that others can reach.
DEMO_LOGINS: Final = {"analyst": "analyst-demo", "colleague": "colleague-demo"}


def create_user(name: str, password: str) -> None:
    """Make a user, or give an existing one a new password.

    Raises:
        InvalidSettings: The name or the password will not do.
    """
    candidate = User(username=name)
    try:
        candidate.clean_fields(exclude=["password"])
        validate_password(password, candidate)
    except ValidationError as exc:
        msg = f"user not made: {' '.join(exc.messages)}"
        raise InvalidSettings(msg) from exc
    _store(name, password)


def create_demo_users() -> None:
    """Make the demo logins, so that a laptop needs no preparation."""
    for name, password in DEMO_LOGINS.items():
        if not User.objects.filter(username=name).exists():
            _store(name, password)


def _store(name: str, password: str) -> None:
    user, _ = User.objects.get_or_create(username=name)
    user.set_password(password)
    user.save()
