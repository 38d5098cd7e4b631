"""Settings of the features service."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fraudstream.broker.clients import DELIVERY_TIMEOUT_S
from fraudstream.errors import InvalidSettings
from fraudstream.grpc_access import Access, ClientTls, read_token
from fraudstream.strict_settings import StrictSettings


class FeaturesSettings(StrictSettings):
    """How a features worker runs; its role is its first argument."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_FEATURES_", frozen=True, extra="forbid")

    scoring_address: str = Field(
        default="127.0.0.1:50052", description="InternalScoring listener, host:port."
    )
    scoring_timeout_s: float = Field(
        default=15.0, gt=0, le=120, description="Bound on one batch's answer, seconds."
    )
    scoring_ca_file: Path | None = Field(
        None, description="CA of InternalScoring's certificate, PEM; none for no TLS."
    )
    scoring_cert_file: Path | None = Field(
        None, description="This service's certificate for mutual TLS, PEM; none for none."
    )
    scoring_key_file: Path | None = Field(
        None, description="Key of that certificate, PEM, mode 0400 or 0440."
    )
    scoring_token_file: Path | None = Field(
        None,
        description="File with the bearer token for scoring, mode 0400 or 0440; none for none.",
    )
    seal_public_key_file: str = Field(
        default="", description="Public key to which dead letters are sealed; empty for none."
    )
    instance_id: str = Field(
        default="", max_length=64, description="Stable worker name for static membership."
    )
    state_dir: str = Field(
        default="var/features", description="Folder that Faust may write; made if missing."
    )
    clock: Literal["wall", "record"] = Field(
        default="wall",
        description="What an idle partition's progress and the age of unread rows are told by: the"
        " clock, or the records only (for replays of old traffic).",
    )
    metrics_port: int = Field(default=0, ge=0, le=65535, description="Prometheus port; 0 for none.")
    delivery_timeout_s: float = Field(
        default=DELIVERY_TIMEOUT_S,
        ge=0,
        le=600,
        description="How long scorers go on trying to publish, seconds: a shard that lost its"
        " states is left alone for so long before it is rebuilt.",
    )
    watchdog_s: int = Field(
        default=60, ge=5, le=3600, description="Lag without progress for so long ends the worker."
    )

    def scoring_access(self) -> Access:
        """Return how this service shows scoring who it is; its files are read now.

        Raises:
            InvalidSettings: A file is missing or too open, or a certificate has no CA beside it.
        """
        token = read_token(self.scoring_token_file) if self.scoring_token_file else ""
        if self.scoring_ca_file is None:
            if self.scoring_cert_file or self.scoring_key_file:
                msg = "FRAUD_FEATURES_SCORING_CA_FILE: expected the CA beside the certificate"
                raise InvalidSettings(msg)
            return Access(token=token)
        tls = ClientTls(self.scoring_ca_file, self.scoring_cert_file, self.scoring_key_file)
        return Access(tls, token)
