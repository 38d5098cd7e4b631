"""Settings of ingest: keys, bounds, topics. Read once, from `FRAUD_INGEST_*`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fraudstream.settings import StrictSettings
from fraudstream.transaction import LATENESS_LONGEST_MS


class IngestSettings(StrictSettings):
    """What ingest and its commands need besides Kafka."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_INGEST_", frozen=True, extra="forbid")

    token_keys_file: Path | None = Field(
        default=None, description="Keys of the card tokens; `keys token PATH` makes a new file."
    )
    seal_public_key_file: Path | None = Field(
        default=None, description="Public key to which dead letters are sealed; `keys seal`."
    )
    seal_private_key_file: Path | None = Field(
        default=None, description="Private key that `dlq replay` mends with; not for the service."
    )
    rate_table_file: Path | None = Field(
        default=None, description="Rates to the reference currency; none for the indicative ones."
    )
    lateness_ms: int = Field(
        default=LATENESS_LONGEST_MS,
        ge=60_000,
        le=LATENESS_LONGEST_MS,
        description="Older events, against the append time, go to the late topic, milliseconds.",
    )
    future_ms: int = Field(
        default=5 * 60_000,
        ge=0,
        le=3_600_000,
        description="Events this far after the append time are still taken, milliseconds.",
    )
    poll_records: int = Field(
        default=2_000, ge=1, le=50_000, description="Records that are worked on together, at most."
    )
    topic_partitions: int = Field(
        default=6, ge=1, le=1_024, description="Partitions of a topic that `topics create` makes."
    )
    topic_replication: int = Field(
        default=1, ge=1, le=9, description="Replicas of a topic that `topics create` makes."
    )
    metrics_port: int = Field(
        default=0, ge=0, le=65_535, description="Port of the Prometheus metrics; 0 for none."
    )
