"""Settings that every service shares: Kafka, the store, telemetry. Read once, then passed down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from fraudstream.errors import InvalidSettings
from fraudstream.keys.secret_files import read_secret
from fraudstream.strict_settings import StrictSettings
from fraudstream.topics import Topic

_RATE_TABLE: Final = "FRAUD_RATES_TABLE_FILE"
_FORMER_RATE_TABLES: Final = ("FRAUD_INGEST_RATE_TABLE_FILE", "FRAUD_SCORING_RATE_TABLE_FILE")


class KafkaSettings(StrictSettings):
    """Where Kafka is, and how to speak to it."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_KAFKA_", frozen=True, extra="forbid")

    bootstrap: str = Field(
        default="127.0.0.1:9092", description="Brokers, host:port, comma-separated."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Kafka's security.protocol."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="SASL mechanism, where the protocol has SASL."
    )
    sasl_username: str = Field(default="", description="SASL user name.")
    sasl_password: SecretStr = Field(
        default=SecretStr(""), description="SASL password, on a laptop; elsewhere name its file."
    )
    sasl_password_file: Path | None = Field(
        default=None, description="File with the SASL password, mode 0400 or 0440."
    )
    ssl_cafile: str = Field(
        default="", description="PEM file of the broker's CA; empty for the system's."
    )
    ssl_certfile: str = Field(default="", description="PEM file of this client's certificate.")
    ssl_keyfile: str = Field(default="", description="PEM file of this client's key.")
    topic_prefix: str = Field(
        default="", max_length=64, description="Put before every topic and group."
    )
    is_embedded: bool = Field(
        default=False,
        description="The broker is the embedded one: no static membership, short polls, acks=1.",
    )
    is_replay: bool = Field(
        default=False,
        description="The topics hold a replay of old traffic: each record's own timestamp is its"
        " time, and nothing expires. Topics of live traffic take the broker's clock.",
    )

    record_keys_dir: Path | None = Field(
        default=None,
        description="Folder with the keys of records' MACs, a file for each writer and topic;"
        " needed wherever Kafka is not on this machine.",
    )

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        """Refuse two passwords: one of them is a forgotten one."""
        if self.sasl_password_file and self.sasl_password.get_secret_value():
            raise ValueError("sasl_password, sasl_password_file: expected one of them, found both")
        return self

    def password(self) -> str:
        """Return the SASL password, read now where a file has it.

        Raises:
            InvalidSettings: The file is missing or its mode is too open.
        """
        if self.sasl_password_file is None:
            return self.sasl_password.get_secret_value()
        return read_secret(self.sasl_password_file).strip()

    def topic(self, topic: Topic) -> str:
        """Return the name of a topic in this deployment."""
        return f"{self.topic_prefix}{topic.name}"

    def group(self, name: str) -> str:
        """Return the name of a consumer group in this deployment."""
        return f"{self.topic_prefix}fraudstream-{name}"


class RedisSettings(StrictSettings):
    """Where the online store is."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_REDIS_", frozen=True, extra="forbid")

    url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="redis:// or rediss:// address, with user and password where needed; for a"
        " cluster some of its servers, as redis://a:6379,b:6379.",
    )
    password_file: Path | None = Field(
        default=None,
        description="File with the password of the user in the address, mode 0400 or 0440.",
    )
    is_cluster: bool = Field(
        default=False, description="The store is a Redis or Valkey Cluster (database 0)."
    )
    key_prefix: str = Field(
        default="fraud", min_length=1, max_length=64, description="Put before every key."
    )
    timeout_s: float = Field(
        default=1.0, gt=0, le=30, description="Bound on connecting and on each answer, seconds."
    )

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        """Refuse two passwords: one of them is a forgotten one."""
        if self.password_file and _split_address(self.url)[1]:
            raise ValueError("url, password_file: expected one password, found one in each")
        return self

    def address(self) -> str:
        """Return the address with its password, read now where a file has it.

        Raises:
            InvalidSettings: The file is missing or its mode is too open.

        >>> RedisSettings(url=SecretStr("redis://scoring:word@a:1,b:2/0")).address()
        'redis://scoring:word@a:1,b:2/0'
        """
        if self.password_file is None:
            return self.url.get_secret_value()
        user, _, servers = _split_address(self.url)
        password = quote(read_secret(self.password_file).strip(), safe="")
        parts = urlsplit(self.url.get_secret_value())
        return urlunsplit(parts._replace(netloc=f"{user}:{password}@{servers}"))


def _split_address(url: SecretStr) -> tuple[str, str, str]:
    """Return user, password and servers of a store's address."""
    login, _, servers = urlsplit(url.get_secret_value()).netloc.rpartition("@")
    user, _, password = login.partition(":")
    return user, password, servers


class TelemetrySettings(StrictSettings):
    """Where spans go and how many are kept."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_TELEMETRY_", frozen=True, extra="forbid")

    otlp_endpoint: str = Field(
        default="",
        description="OTLP/HTTP base address, such as http://127.0.0.1:4318; empty for none.",
    )
    otlp_ca_file: Path | None = Field(
        default=None, description="CA of an https endpoint, PEM; none for the system's."
    )
    otlp_headers_file: Path | None = Field(
        default=None,
        description="File with headers for the endpoint, one `name: value` a line, such as its"
        " authorization; mode 0400 or 0440.",
    )
    sample_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Share of traces kept besides the flagged ones."
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address on which a service's metrics port listens."
    )

    def otlp_headers(self) -> dict[str, str]:
        """Return the headers for the endpoint, read now.

        Raises:
            InvalidSettings: The file is missing or too open, or a line is no header.

        >>> TelemetrySettings().otlp_headers()
        {}
        """
        if self.otlp_headers_file is None:
            return {}
        lines = [line for line in read_secret(self.otlp_headers_file).splitlines() if line.strip()]
        headers = [
            (name.strip(), value.strip())
            for name, _, value in (line.partition(":") for line in lines)
        ]
        if not all(name and value for name, value in headers):
            msg = f"{self.otlp_headers_file}: expected one `name: value` a line, found another"
            raise InvalidSettings(msg)
        return dict(headers)


class RatesSettings(StrictSettings):
    """The rate table: one for every service and command that converts amounts."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_RATES_", frozen=True, extra="forbid")

    table_file: Path | None = Field(
        default=None, description="Rates to the reference currency; none for the indicative ones."
    )

    @classmethod
    def read(cls) -> Self:
        """Read the environment, where the table may have one of its former names.

        Raises:
            InvalidSettings: Two names give two files.
        """
        names = (_RATE_TABLE, *_FORMER_RATE_TABLES)
        told = {name: os.environ[name] for name in names if os.environ.get(name)}
        if len(set(told.values())) > 1:
            msg = f"{' and '.join(told)} name different files: expected {_RATE_TABLE} alone"
            raise InvalidSettings(msg)
        settings = super().read()
        return cls(table_file=Path(next(iter(told.values())))) if told else settings


class LogSettings(StrictSettings):
    """What a service's log says, and in which form."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_LOG_", frozen=True, extra="forbid")

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="Lowest level of this project's lines; libraries' lines begin at WARNING, at"
        " DEBUG with DEBUG.",
    )
    format: Literal["json", "text"] = Field(
        default="json", description="One JSON object a line, or plain text for people."
    )
