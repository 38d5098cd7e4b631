"""What the console's settings refuse."""

from __future__ import annotations

import pytest

from services.console.settings import ConsoleSettings

PUBLIC = {"host": "0.0.0.0", "is_https": True, "secret_key_file": "/run/secrets/key"}  # noqa: S104  # the case under test


def test_demo_logins_are_refused_beyond_loopback() -> None:
    """Passwords that are published must not be reachable from another machine."""
    with pytest.raises(ValueError, match="demo_logins needs a loopback host"):
        ConsoleSettings.model_validate({**PUBLIC, "demo_logins": True})


@pytest.mark.parametrize("lacking", [{"is_https": False}, {"secret_key_file": ""}])
def test_beyond_loopback_https_and_a_kept_key_are_needed(lacking: dict[str, object]) -> None:
    """Cookies without TLS, or sessions signed by a key that a restart forgets, do not start."""
    with pytest.raises(ValueError, match="is_https=true and a secret_key_file"):
        ConsoleSettings.model_validate({**PUBLIC, **lacking})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_neither(host: str) -> None:
    """A laptop starts without preparation."""
    assert ConsoleSettings(host=host, demo_logins=True).is_loopback
