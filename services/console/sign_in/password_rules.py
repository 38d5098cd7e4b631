"""Rules for new passwords, as Django's validators: PCI DSS 8.3.6 and 8.3.7."""

from __future__ import annotations

import re
from typing import Final

from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from services.console.models import FormerPassword

# PCI DSS 8.3.7: none of the last four.
KEPT_FORMER: Final = 4
_LEAST_DIFFERENT: Final = 6
_REPEATED: Final = re.compile(r"(.+?)\1+")


class LetterAndDigitValidator:
    """Asks for a letter and a digit, and for more than one text over and over."""

    def validate(self, password: str, user: User | None = None) -> None:
        """Raise `ValidationError` where a password lacks one of them."""
        del user
        has_letter = any(mark.isalpha() for mark in password)
        has_digit = any(mark.isdigit() for mark in password)
        if not (has_letter and has_digit):
            raise ValidationError("It needs at least one letter and one digit.")
        if len(set(password)) < _LEAST_DIFFERENT or _REPEATED.fullmatch(password):
            raise ValidationError(
                f"It needs {_LEAST_DIFFERENT} different characters, and no text over and over."
            )

    def get_help_text(self) -> str:
        """Return the rule."""
        return "At least one letter and one digit."


class FormerPasswordValidator:
    """Refuses the present password and the last ones before it."""

    def validate(self, password: str, user: User | None = None) -> None:
        """Raise `ValidationError` where a user had the password before."""
        if user is None or user.pk is None:
            return
        former = FormerPassword.objects.filter(user_id=user.pk).order_by("-set_at_ms", "-id")
        hashes = [user.password, *(each.password for each in former[:KEPT_FORMER])]
        if any(check_password(password, each) for each in hashes):
            raise ValidationError(f"It was one of the last {KEPT_FORMER} passwords.")

    def get_help_text(self) -> str:
        """Return the rule."""
        return f"None of the last {KEPT_FORMER} passwords."
