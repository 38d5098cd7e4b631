"""Settings of the archive. Read once, from `FRAUD_ARCHIVE_*`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fraudstream.strict_settings import StrictSettings


class ArchiveSettings(StrictSettings):
    """Where files go, and when one is finished."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_ARCHIVE_", frozen=True, extra="forbid")

    root: Path = Field(
        default=Path("var/archive"),
        description="Folder of the archive; all workers share it, and it must honour flock.",
    )
    max_rows: int = Field(
        default=200_000, ge=1, le=10_000_000, description="Records after which a file is finished."
    )
    max_age_s: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="Time after its first record after which a file is finished, seconds.",
    )
    pending_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        le=4 * 1024 * 1024 * 1024,
        description="Bytes of records that may wait in memory before they are written, all in all.",
    )
    metrics_port: int = Field(
        default=0, ge=0, le=65_535, description="Port of the Prometheus metrics; 0 for none."
    )
