"""Login throttling: counts failures by name and by address, in the database that all workers share.

Whether a name exists changes nothing, and names and addresses are stored hashed.
"""

from __future__ import annotations

import hashlib
from typing import Final

from django.db.models import Q

from services.console.models import FailedLogin

WINDOW_MS: Final = 15 * 60 * 1000
# One analyst who forgot the password; and one machine that tries many names, or a whole office
# behind one address.
MAX_BY_NAME: Final = 5
MAX_BY_ADDRESS: Final = 50


def is_throttled(name: str, address: str, now_ms: int) -> bool:
    """Say whether this name or this address has failed too often within the window."""
    recent = FailedLogin.objects.filter(failed_at_ms__gt=now_ms - WINDOW_MS)
    return (
        recent.filter(name_hash=_hash(name)).count() >= MAX_BY_NAME
        or recent.filter(address_hash=_hash(address)).count() >= MAX_BY_ADDRESS
    )


def record_failure(name: str, address: str, now_ms: int) -> None:
    """Count a failed login, and forget those that no longer count."""
    FailedLogin.objects.filter(failed_at_ms__lte=now_ms - WINDOW_MS).delete()
    FailedLogin.objects.create(
        name_hash=_hash(name), address_hash=_hash(address), failed_at_ms=now_ms
    )


def forget_failures(name: str, address: str) -> None:
    """Forget the failures of a name at an address that has now logged in."""
    FailedLogin.objects.filter(Q(name_hash=_hash(name)) & Q(address_hash=_hash(address))).delete()


def _hash(text: str) -> str:
    return hashlib.sha256(text.strip().casefold().encode(errors="replace")).hexdigest()
