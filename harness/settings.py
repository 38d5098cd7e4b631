"""What the demo and the tests take from the machine: where Kafka, Java and recorded traffic are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fraudstream.settings import KafkaSettings, RedisSettings


class MachineSettings(BaseSettings):
    """Folders of the machine. Their names are common ones, so there is no prefix."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    kafka_home: Path | None = Field(
        default=None, description="Folder of Apache Kafka: its jars are in libs/."
    )
    java_home: Path | None = Field(
        default=None, description="Folder of Java 17 or newer; else the PATH's."
    )
    fraud_data_dir: Path | None = Field(
        default=None, description="Folder of the data sets for tests."
    )

    @property
    def java(self) -> Path | None:
        """The `java` program, None where there is none."""
        if self.java_home is not None and (self.java_home / "bin" / "java").is_file():
            return self.java_home / "bin" / "java"
        found = shutil.which("java")
        return Path(found) if found else None

    @property
    def browser(self) -> Path | None:
        """A Chromium or Chrome on the PATH, None where there is none."""
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
        found = next(filter(None, map(shutil.which, names)), None)
        return Path(found) if found else None

    @property
    def promtool(self) -> Path | None:
        """Prometheus' checker of rules on the PATH, None where there is none."""
        found = shutil.which("promtool")
        return Path(found) if found else None


def kafka_settings_in(environment: Mapping[str, str]) -> KafkaSettings:
    """Return the Kafka settings that a child with these variables reads.

    >>> kafka_settings_in({"FRAUD_KAFKA_TOPIC_PREFIX": "t1-"}).topic_prefix
    't1-'
    """
    return KafkaSettings(**_fields(environment, "FRAUD_KAFKA_"))


def redis_settings_in(environment: Mapping[str, str]) -> RedisSettings:
    """Return the store's settings that a child with these variables reads."""
    return RedisSettings(**_fields(environment, "FRAUD_REDIS_"))


def _fields(environment: Mapping[str, str], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in environment.items()
        if name.startswith(prefix)
    }
