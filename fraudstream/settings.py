"""Settings that every service shares: Kafka, the store, telemetry. Read once, then passed down."""

from __future__ import annotations

import os
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from fraudstream.errors import InvalidSettings
from fraudstream.topics import Topic


class StrictSettings(BaseSettings):
    """Base of all settings: frozen, and an unknown variable under the prefix is refused."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls) -> Self:
        """Read the environment.

        Raises:
            InvalidSettings: A value is out of bounds, or a variable under the prefix is unknown.
        """
        prefix = cls.model_config.get("env_prefix", "")
        known = {f"{prefix}{name}".upper() for name in cls.model_fields}
        unknown = [name for name in os.environ if name.startswith(prefix) and name not in known]
        if unknown:
            msg = f"unknown settings {sorted(unknown)}; known are {sorted(known)}"
            raise InvalidSettings(msg)
        try:
            return cls()
        except ValidationError as exc:
            # Without the values that were found: one of them may be a password.
            found = "; ".join(
                ": ".join([*map(str, fault["loc"]), fault["msg"]])
                for fault in exc.errors(include_input=False, include_url=False)
            )
            raise InvalidSettings(f"settings under {prefix}* are not valid: {found}") from None
        except ValueError as exc:
            raise InvalidSettings(f"settings under {prefix}* are not valid: {exc}") from exc


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
    sasl_password: SecretStr = Field(default=SecretStr(""), description="SASL password.")
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
    is_cluster: bool = Field(
        default=False, description="The store is a Redis or Valkey Cluster (database 0)."
    )
    key_prefix: str = Field(
        default="fraud", min_length=1, max_length=64, description="Put before every key."
    )
    timeout_s: float = Field(
        default=1.0, gt=0, le=30, description="Bound on connecting and on each answer, seconds."
    )


class TelemetrySettings(StrictSettings):
    """Where spans go and how many are kept."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_TELEMETRY_", frozen=True, extra="forbid")

    otlp_endpoint: str = Field(
        default="",
        description="OTLP/HTTP base address, such as http://127.0.0.1:4318; empty for none.",
    )
    sample_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Share of traces kept besides the flagged ones."
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address on which a service's metrics port listens."
    )
