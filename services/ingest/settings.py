"""Settings of ingest: keys, bounds, topics. Read once, from `FRAUD_INGEST_*`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fraudstream.errors import InvalidSettings
from fraudstream.strict_settings import StrictSettings
from fraudstream.transaction.card_token import KEY_IDS, Tokeniser, TokenKeys, key_ids
from fraudstream.transaction.event_time import FUTURE_LONGEST_MS, LATENESS_LONGEST_MS


class IngestSettings(StrictSettings):
    """What ingest and its commands need besides Kafka."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_INGEST_", frozen=True, extra="forbid")
    read_elsewhere = ("FRAUD_INGEST_RATE_TABLE_FILE",)

    token_keys_file: Path | None = Field(
        default=None, description="Keys of the card tokens; `keys token PATH` makes a new file."
    )
    token_key_ids: str = Field(
        default="",
        pattern=KEY_IDS,
        description="Ids of the keys of banks that make card tokens themselves, comma-separated;"
        " a token under any other key than these and ours is refused.",
    )
    seal_public_key_file: Path | None = Field(
        default=None, description="Public key to which dead letters are sealed; `keys seal`."
    )
    seal_private_key_file: Path | None = Field(
        default=None,
        description="Private key, or folder of them, with which `dlq replay` opens letters; not for"
        " the service.",
    )
    pan_private_keys: Path | None = Field(
        default=None,
        description="Private key, or folder of them, that opens sealed card numbers; `keys pan`.",
    )
    pan_public_key_file: Path | None = Field(
        default=None, description="Public key to which `dlq replay` seals a corrected card number."
    )
    requires_sealed_pan: bool = Field(
        default=False, description="Refuse card numbers in clear: sealed ones and tokens only."
    )
    feeds_file: Path | None = Field(
        default=None,
        description="Raw topics and the banks whose records each may carry, TOML; none reads"
        " `transactions.raw.v1` and `labels.raw.v1` for every bank.",
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
        le=FUTURE_LONGEST_MS,
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
    archive_root: Path = Field(
        default=Path("var/archive"),
        description="Root of the archive in which `labels` looks transactions up.",
    )
    label_orphan_after_s: float = Field(
        default=3_600.0,
        ge=0,
        le=604_800,
        description="A label whose transaction is not archived this long after the label came is"
        " refused, seconds.",
    )
    metrics_port: int = Field(
        default=0, ge=0, le=65_535, description="Port of the Prometheus metrics; 0 for none."
    )

    def tokeniser(self) -> tuple[Tokeniser, TokenKeys]:
        """Return what makes and judges card tokens, and its keys.

        Raises:
            InvalidSettings: The file of keys is not named, or not as it must be.
        """
        keys = TokenKeys.load(needed_file(self.token_keys_file, "TOKEN_KEYS_FILE"))
        return Tokeniser(keys, key_ids(self.token_key_ids)), keys


def needed_file(path: Path | None, name: str) -> Path:
    """Return a file that the settings name.

    Raises:
        InvalidSettings: They name none.
    """
    if path is None:
        raise InvalidSettings(f"FRAUD_INGEST_{name} is not set; `keys` makes new key files")
    return path
