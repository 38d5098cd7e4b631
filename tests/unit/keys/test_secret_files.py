"""Secrets come by files: one password each, read at use, from files that others may not read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from fraudstream.broker.clients import kafka_python_options
from fraudstream.errors import InvalidSettings
from fraudstream.settings import KafkaSettings, RedisSettings, TelemetrySettings
from fraudstream.store.nodes import addresses_of
from services.console.database import databases
from services.console.settings import ConsoleSettings

WORD = "a:b/c@d e%"


@pytest.fixture
def word_file(tmp_path: Path) -> Path:
    """A file with a password that no address takes as it is."""
    path = tmp_path / "password"
    path.write_text(f"{WORD}\n")
    path.chmod(0o440)
    return path


def test_kafka_password_is_what_its_file_holds(word_file: Path) -> None:
    """Both client libraries are given it, without the line's end."""
    settings = KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_password_file=word_file)

    assert kafka_python_options(settings)["sasl_plain_password"] == WORD


def test_store_password_of_a_file_joins_the_address(word_file: Path) -> None:
    """For each server of a cluster, whatever marks it holds."""
    settings = RedisSettings(url=SecretStr("rediss://scoring@a:1,b:2/0"), password_file=word_file)

    assert addresses_of(settings.address()) == [
        "rediss://scoring:a%3Ab%2Fc%40d%20e%25@a:1/0",
        "rediss://scoring:a%3Ab%2Fc%40d%20e%25@b:2/0",
    ]


def test_collector_headers_are_what_their_file_holds(word_file: Path) -> None:
    """One a line; a line that is no header is refused without being shown."""
    word_file.chmod(0o600)
    word_file.write_text("authorization: Bearer x:y\n\nx-tenant: bank\n")
    found = TelemetrySettings(otlp_headers_file=word_file).otlp_headers()
    word_file.write_text("secret-without-a-name")

    assert found == {"authorization": "Bearer x:y", "x-tenant": "bank"}
    with pytest.raises(InvalidSettings, match="one `name: value` a line, found another"):
        TelemetrySettings(otlp_headers_file=word_file).otlp_headers()


@pytest.mark.parametrize("mode", [0o444, 0o640 | 0o020])
def test_file_that_others_may_read_is_refused(word_file: Path, mode: int) -> None:
    """The owner's mode is the promise of the page, so the service holds it."""
    word_file.chmod(mode)

    with pytest.raises(InvalidSettings, match="expected 0400"):
        KafkaSettings(sasl_password_file=word_file).password()
    with pytest.raises(InvalidSettings, match="expected 0400"):
        RedisSettings(password_file=word_file).address()


def test_two_passwords_are_refused(word_file: Path) -> None:
    """One of them is a forgotten one."""
    with pytest.raises(ValueError, match="expected one of them, found both"):
        KafkaSettings(sasl_password=SecretStr("x"), sasl_password_file=word_file)
    with pytest.raises(ValueError, match="expected one password, found one in each"):
        RedisSettings(url=SecretStr("redis://u:w@a:1"), password_file=word_file)
    with pytest.raises(InvalidSettings, match="expected one password, found one in each"):
        databases(
            ConsoleSettings(
                database_url=SecretStr("postgresql://u:w@127.0.0.1/d"),
                database_password_file=str(word_file),
            )
        )


@pytest.mark.parametrize("mode", ["", "?sslmode=require", "?sslmode=verify-ca", "?sslmode=prefer"])
def test_database_elsewhere_is_known_by_its_certificate(mode: str) -> None:
    """libpq's other modes take any certificate, or none."""
    url = SecretStr(f"postgresql://console@db.bank.example/console{mode}")

    with pytest.raises(InvalidSettings, match="without sslmode=verify-full"):
        databases(ConsoleSettings(database_url=url))
    assert databases(ConsoleSettings(database_url=url, database_trusts_network=True))


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://console@127.0.0.1/console",
        "postgresql:///console",
        "postgresql://console@db.bank.example/console?sslmode=verify-full",
    ],
)
def test_database_here_or_verified_is_taken(address: str) -> None:
    """Loopback, a socket, or a verified certificate."""
    found = databases(ConsoleSettings(database_url=SecretStr(address)))

    assert found["default"]["NAME"] == "console"
