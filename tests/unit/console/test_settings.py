"""What the console's settings refuse."""

from __future__ import annotations

import pytest

from fraudstream.errors import InvalidSettings
from fraudstream.transaction.money import RateTable
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


def test_reference_currency_is_that_of_the_rate_table() -> None:
    """Ingest converts by the table, so its currency is the one that amounts are in."""
    table = RateTable.of_quotes("1", "USD", {"2026-01-01": {"EUR": "0.9"}})

    assert ConsoleSettings().with_currency_of(table).reference_currency == "USD"
    assert ConsoleSettings(reference_currency="USD").with_currency_of(table)
    with pytest.raises(InvalidSettings, match="that of rate table 1 is USD"):
        ConsoleSettings(reference_currency="EUR").with_currency_of(table)


def test_beyond_loopback_a_code_follows_the_password_unless_told_otherwise() -> None:
    """PCI DSS 8.4.2; an identity provider in front may ask for it instead."""
    assert ConsoleSettings.model_validate(PUBLIC).sign_in_policy.needs_second_factor
    assert not ConsoleSettings().sign_in_policy.needs_second_factor
    told = ConsoleSettings.model_validate({**PUBLIC, "requires_second_factor": False})
    assert not told.sign_in_policy.needs_second_factor


def test_a_proxy_network_that_is_none_is_refused() -> None:
    """A typing error must not become trust in nobody, or in everybody."""
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network"):
        ConsoleSettings(trusted_proxies="10.0.0.0/8, proxy.bank.example")
