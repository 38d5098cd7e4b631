"""Settings of the scoring service. The only file of it that knows the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from fraudstream.engines.engine_kinds import FIRST, EngineKind
from fraudstream.grpc_access import is_loopback_address
from fraudstream.settings import (
    KafkaSettings,
    RatesSettings,
    RedisSettings,
    TelemetrySettings,
)
from fraudstream.strict_settings import StrictSettings
from fraudstream.transaction.card_token import KEY_IDS
from fraudstream.transaction.event_time import FUTURE_LONGEST_MS, LATENESS_LONGEST_MS

_OPEN_DOORS: Final = (
    "host {host} is beyond loopback, and there is no {lacking}: expected tls_cert_file,"
    " tls_key_file and callers_file (`fraudstream scoring token` makes it); where a mesh"
    " or a network policy keeps others out, say so by trusts_network=true"
)


class AnswerAfter(StrEnum):
    """When a gRPC caller is answered."""

    RECORD = "record"
    ACK = "ack"


class ScoringSettings(StrictSettings):
    """What the scoring service can be told."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_SCORING_", frozen=True, extra="forbid")
    read_elsewhere = ("FRAUD_SCORING_RATE_TABLE_FILE",)

    host: str = Field(default="127.0.0.1", description="Address of both listeners.")
    port: int = Field(
        default=50051, ge=0, le=65535, description="Port of `Scoring`; 0 for any free one."
    )
    internal_port: int = Field(
        default=50052, ge=0, le=65535, description="Port of `InternalScoring`; 0 for any free one."
    )
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="Port of the metrics; 0 for none."
    )
    model: str = Field(
        default="var/models",
        description="Folder of the model repository; empty for none: every decision is a stand-in.",
    )
    people_file: Path | None = Field(
        None, description="Public keys of those whose signatures count; a model needs one of them."
    )
    rule_set: str = Field(
        default="cards",
        pattern=r"^[a-z][a-z0-9_]{0,38}$",
        description="Id of the rule set that is served; people_file says who may publish it.",
    )
    rule_set_file: Path | None = Field(
        None,
        description="Rule set that serves until one is published; with neither the service does not"
        " start: nobody chose what stands in for the model.",
    )
    model_head_file: Path | None = Field(
        None,
        description="Where the head of the promotion ledger is kept: a ledger without what was seen"
        " at an earlier start is refused; none to remember nothing.",
    )
    model_poll_ms: int = Field(
        default=1_000,
        ge=50,
        le=60_000,
        description="Time between two looks at the promotion ledger: a promotion or rollback is"
        " served that much later, milliseconds.",
    )
    model_batch_ms: float = Field(
        default=250.0,
        gt=0,
        le=10_000,
        description="A model whose full batch of 64 rows takes longer is refused, milliseconds.",
    )
    model_memory_mib: int = Field(
        default=512,
        ge=1,
        le=65_536,
        description="A model whose loading takes more memory is refused, MiB.",
    )
    engine: EngineKind = Field(
        default=FIRST,
        description="What computes the scores: the CPU, or a GPU by a TensorRT (extra: gpu).",
    )
    gpu_precision: Literal["fp32", "fp16"] = Field(
        default="fp32", description="In which a GPU engine computes; its scores may differ by 5e-4."
    )
    gpu_engines_folder: Path = Field(
        default=Path(".engines"), description="Where built GPU engines are kept; ours alone."
    )
    token_keys_file: Path | None = Field(
        None,
        description="Keys of the card tokens, mode 0400; none takes card tokens only, under any"
        " key.",
    )
    token_key_ids: str = Field(
        default="",
        pattern=KEY_IDS,
        description="Ids of the keys of banks that make card tokens themselves, comma-separated.",
    )
    lateness_ms: int = Field(
        default=LATENESS_LONGEST_MS,
        ge=60_000,
        le=LATENESS_LONGEST_MS,
        description="Events older than this on arrival at the gRPC door are refused, milliseconds.",
    )
    future_ms: int = Field(
        default=5 * 60_000,
        ge=0,
        le=FUTURE_LONGEST_MS,
        description="Events this far in the future are still taken, milliseconds.",
    )
    max_in_flight: int = Field(
        default=128,
        ge=1,
        le=100_000,
        description="Calls in flight at each door before calls are refused: some 0.2 s of work.",
    )
    message_timeout_ms: int = Field(
        default=5_000,
        ge=50,
        le=60_000,
        description="How long the message of a call may take to arrive after its headers: 4 MiB by"
        " 7 Mbit/s, milliseconds.",
    )
    stream_idle_s: float = Field(
        default=60.0,
        ge=0.5,
        le=330,
        description="A stream on which nothing moves for so long is ended, seconds.",
    )
    streams_per_caller: int = Field(
        default=16,
        ge=1,
        le=64,
        description="Streams that one caller may have open at each door: one name of the callers"
        " file, or one address where there is no such file.",
    )
    default_deadline_ms: int = Field(
        default=1_000,
        ge=10,
        le=60_000,
        description="Deadline of a caller who set none, milliseconds.",
    )
    reserve_ms: int = Field(
        default=20,
        ge=1,
        le=1_000,
        description="Kept back of a deadline: half to record a stand-in, half for the answer's way,"
        " milliseconds.",
    )
    store_patience_ms: int = Field(
        default=150,
        ge=5,
        le=10_000,
        description="How long a decision of a gRPC caller waits for an answer of the store, at most"
        " FRAUD_REDIS_TIMEOUT_S; then it is provisional, milliseconds.",
    )
    answer_after: AnswerAfter = Field(
        default=AnswerAfter.RECORD,
        description="Answer when the store has recorded the decision, or when Kafka has it too.",
    )
    publish_backlog: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Decisions that wait in memory for Kafka; the rest wait in the outbox only.",
    )
    sweep_every_ms: int = Field(
        default=1_000, ge=10, le=60_000, description="Time between two sweeps of the outboxes."
    )
    sweep_after_ms: int = Field(
        default=5_000,
        ge=10,
        le=600_000,
        description="How long no living scorer held an outbox entry that is swept, milliseconds.",
    )
    grace_s: float = Field(
        default=5.0,
        ge=0,
        le=60,
        description="How long calls in flight may go on after SIGTERM, seconds.",
    )
    has_reflection: bool = Field(
        default=True, description="Whether gRPC reflection lists the services."
    )
    workers: int = Field(
        default=1,
        ge=0,
        le=256,
        description="Processes that share both ports, each with its own engine; 0 for one a core."
        " Worker K serves metrics on the metrics port + K.",
    )
    tls_cert_file: Path | None = Field(
        None,
        description="Certificate chain of both listeners, PEM; read again when it changes.",
    )
    tls_key_file: Path | None = Field(
        None, description="Key of that certificate, PEM, mode 0400 or 0440."
    )
    tls_client_ca_file: Path | None = Field(
        None,
        description="CA whose certificates callers must bring (mutual TLS), PEM; none asks for"
        " none.",
    )
    callers_file: Path | None = Field(
        None,
        description="Who may call: hashed tokens and certificate names, each with a role and a last"
        " day, as `services.scoring token` writes them; none lets everyone in.",
    )
    pan_rate_per_s: float = Field(
        default=200.0,
        gt=0,
        le=100_000,
        description="Card numbers that each caller of the callers file may bring a second, over"
        " time and to each worker process: an answer tells the card's token.",
    )
    pan_burst: int = Field(
        default=2_000,
        ge=1,
        le=1_000_000,
        description="How many of them at once, to each worker process.",
    )
    trusts_network: bool = Field(
        default=False,
        description="Listen beyond loopback without TLS or a callers file, because a mesh or a"
        " network policy keeps others out.",
    )
    sandbox_bank: str = Field(
        default="",
        max_length=32,
        pattern=r"^(sandbox[a-z0-9-]*)?$",
        description="Bank id whose calls are test transactions, beginning with `sandbox`; empty for"
        " none.",
    )

    @property
    def processes(self) -> int:
        """Return how many processes serve."""
        return self.workers or len(os.sched_getaffinity(0))

    @model_validator(mode="after")
    def _check_doors(self) -> Self:
        """Refuse listeners that more can reach or read than was meant."""
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file: expected both or none, found one")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError(
                "tls_client_ca_file: expected tls_cert_file and tls_key_file beside it"
            )
        lacking = [
            what
            for what, file in (("TLS", self.tls_cert_file), ("callers file", self.callers_file))
            if file is None
        ]
        if lacking and not self.trusts_network and not is_loopback_address(self.host):
            raise ValueError(_OPEN_DOORS.format(host=self.host, lacking=" and no ".join(lacking)))
        return self


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """All that the service reads from its environment."""

    scoring: ScoringSettings
    kafka: KafkaSettings
    redis: RedisSettings
    telemetry: TelemetrySettings
    rates: RatesSettings

    @classmethod
    def read(cls) -> Self:
        """Read the environment.

        Raises:
            InvalidSettings: A value is out of bounds, a variable unknown, or a listener open.
        """
        return cls(
            ScoringSettings.read(),
            KafkaSettings.read(),
            RedisSettings.read(),
            TelemetrySettings.read(),
            RatesSettings.read(),
        )
