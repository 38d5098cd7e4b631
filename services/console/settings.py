"""Settings of the console, from `FRAUD_CONSOLE_*`."""

from __future__ import annotations

import ipaddress
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from fraudstream.errors import InvalidSettings
from fraudstream.strict_settings import StrictSettings
from fraudstream.transaction.money import RateTable
from services.console.sign_in_policy import Network, SignInPolicy


class ConsoleSettings(StrictSettings):
    """Where the console listens, what it stores in, and whom it trusts."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_CONSOLE_", frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port to listen on.")
    metrics_port: int = Field(default=0, ge=0, le=65535, description="Prometheus port; 0 for none.")
    threads: int = Field(default=8, ge=1, le=64, description="Requests answered at the same time.")
    database_url: SecretStr = Field(
        default=SecretStr("sqlite:///var/console.sqlite3"),
        description="sqlite:///relative/path, sqlite:////absolute/path or"
        " postgresql://user@host/db?sslmode=verify-full&sslrootcert=FILE.",
    )
    database_trusts_network: bool = Field(
        default=False,
        description="Speak to a PostgreSQL beyond loopback without verified TLS, because a mesh or"
        " the machine's own network keeps others out.",
    )
    database_migrates: bool = Field(
        default=True,
        description="Bring the tables up to date at the start. False where the role may not make"
        " tables: `migrate` does it as their owner, and tables of another release are refused.",
    )
    database_password_file: str = Field(
        default="",
        description="File with the database password; empty to take it from the address.",
    )
    secret_key_file: str = Field(
        default="",
        description="File with the key that signs sessions; below it former ones that still"
        " count, one a line; empty for a new one at each start.",
    )
    allowed_hosts: str = Field(
        default="127.0.0.1,localhost",
        description="Host names that browsers may use, comma-separated.",
    )
    is_https: bool = Field(
        default=False, description="Browsers come over TLS (a proxy ends it): cookies are Secure."
    )
    session_idle_s: int = Field(
        default=900, ge=60, le=86_400, description="Seconds without a request that end a session."
    )
    reference_currency: str = Field(
        default="EUR",
        pattern="^[A-Z]{3}$",
        description="Currency of expected losses; that of FRAUD_RATES_TABLE_FILE where it is set.",
    )
    trusted_proxies: str = Field(
        default="",
        description="Networks of the proxies in front, such as 10.0.0.0/8, comma-separated: their"
        " X-Forwarded-For says where a browser is.",
    )
    requires_second_factor: bool | None = Field(
        default=None,
        description="Whether the code of an authenticator follows the password; unset for yes"
        " beyond loopback.",
    )
    password_days: int = Field(
        default=90, ge=1, le=3_650, description="Days after which a password must be changed."
    )
    inactive_days: int = Field(
        default=90, ge=1, le=3_650, description="Days without a login that close an account."
    )
    security_contact: str = Field(
        default="",
        pattern=r"^(|(mailto:|https://)[!-~]{3,200})$",
        description="Where a weakness is reported, mailto: or https:; /.well-known/security.txt"
        " shows it.",
    )
    demo_logins: bool = Field(
        default=False,
        description="Make users with published passwords; only on a loopback address.",
    )

    def with_currency_of(self, rate_table: RateTable) -> Self:
        """Return these settings with the reference currency of a rate table.

        Raises:
            InvalidSettings: They name another one.
        """
        found = rate_table.reference_currency
        if "reference_currency" in self.model_fields_set and self.reference_currency != found:
            msg = (
                f"FRAUD_CONSOLE_REFERENCE_CURRENCY is {self.reference_currency}, that of rate table"
                f" {rate_table.version} is {found}: leave the variable out"
            )
            raise InvalidSettings(msg)
        return self.model_copy(update={"reference_currency": found})

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if self.is_loopback:
            return self
        if self.demo_logins:
            msg = "demo_logins needs a loopback host: their passwords are published"
            raise ValueError(msg)
        if not (self.is_https and self.secret_key_file):
            msg = "beyond loopback, is_https=true and a secret_key_file are needed"
            raise ValueError(msg)
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, text: str) -> str:
        _networks(text)
        return text

    @property
    def sign_in_policy(self) -> SignInPolicy:
        """What signing in demands."""
        told = self.requires_second_factor
        return SignInPolicy(
            needs_second_factor=not self.is_loopback if told is None else told,
            password_days=self.password_days,
            inactive_days=self.inactive_days,
            trusted_proxies=_networks(self.trusted_proxies),
        )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the console."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())
