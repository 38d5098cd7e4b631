"""The second factor: codes of an authenticator by time (RFC 6238), kept by django-otp."""

from __future__ import annotations

import hashlib

from django.contrib.auth.models import User
from django.db import transaction
from django_otp.plugins.otp_totp.models import TOTPDevice  # type: ignore[import-untyped]  # ships no types

_DEVICE_NAME = "authenticator"


def enrolled_device(user: User) -> TOTPDevice | None:
    """Return a user's authenticator, None where none is set up."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).first()


def is_right_code(device: TOTPDevice, code: str) -> bool:
    """Return whether a code is the device's of now, and was not used before; confirm the device."""
    with transaction.atomic():
        # One at a time: the same code in two requests is right once.
        locked = TOTPDevice.objects.select_for_update().get(pk=device.pk)
        if not locked.verify_token(code):
            return False
        locked.confirmed = True
        locked.save()
        TOTPDevice.objects.filter(user=locked.user, confirmed=False).delete()
    return True


def offered_device(user: User, session_key: str) -> TOTPDevice:
    """Return the authenticator that a user may set up in a session; its key stays until then.

    Each session has a key of its own: whoever saw that of another, with a stolen password and
    before the user came, knows nothing of what the user sets up.
    """
    session = hashlib.sha256(session_key.encode()).hexdigest()[:16]
    device, _ = TOTPDevice.objects.get_or_create(
        user=user, confirmed=False, name=f"{_DEVICE_NAME} {session}"
    )
    return device
