"""Settings of the console, from `FRAUD_CONSOLE_*`."""

from __future__ import annotations

import ipaddress
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from fraudstream.settings import StrictSettings


class ConsoleSettings(StrictSettings):
    """Where the console listens, what it stores in, and whom it trusts."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_CONSOLE_", frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port to listen on.")
    metrics_port: int = Field(default=0, ge=0, le=65535, description="Prometheus port; 0 for none.")
    threads: int = Field(default=8, ge=1, le=64, description="Requests answered at the same time.")
    database_url: SecretStr = Field(
        default=SecretStr("sqlite:///var/console.sqlite3"),
        description="sqlite:///relative/path, sqlite:////absolute/path or postgresql://user@host/db.",
    )
    database_password_file: str = Field(
        default="",
        description="File with the database password; empty to take it from the address.",
    )
    secret_key_file: str = Field(
        default="",
        description="File with the key that signs sessions; empty for a new one at each start.",
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
        description="Currency of expected losses, as ingest has it.",
    )
    demo_logins: bool = Field(
        default=False,
        description="Make users with published passwords; only on a loopback address.",
    )

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

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the console."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
