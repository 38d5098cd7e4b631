"""One error tree, beside its mapping to gRPC status, retry advice and outcome on the stream."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Retry(StrEnum):
    """What a caller may do after an error."""

    NO = "no"
    BACKOFF = "yes, with backoff"
    REREAD = "after reading again"
    LATER = "yes, later"
    IF_IDEMPOTENT = "if idempotent"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one error shows at each boundary.

    Attributes:
        status: Name of the gRPC status code, as in `grpc.StatusCode`.
        retry: What a caller may do.
        stream: What happens to a record of a topic that met it.
    """

    status: str
    retry: Retry
    stream: str


class FraudStreamError(Exception):
    """Base of all errors that a caller can act on. `outcome` says how each boundary shows it."""

    outcome: ClassVar[Outcome] = Outcome("INTERNAL", Retry.NO, "crash and replay")


class InvalidTransaction(FraudStreamError):
    """A transaction breaks the contract.

    Attributes:
        reason: Machine-readable code such as `AMOUNT_SIGN`; never holds a value of the record.
    """

    outcome = Outcome("INVALID_ARGUMENT", Retry.NO, "dead-letter with its reason")

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside a message that says what was expected and found, without a PAN."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class LateTransaction(FraudStreamError):
    """A transaction is older than the lateness bound."""

    outcome = Outcome("OUT_OF_RANGE", Retry.NO, "late topic, counted, no decision")


class ConflictingTransaction(FraudStreamError):
    """A known transaction id came with another body."""

    outcome = Outcome("ALREADY_EXISTS", Retry.NO, "dead-letter, count")


class EntityNotFound(FraudStreamError):
    """No state is kept for an entity."""

    outcome = Outcome("NOT_FOUND", Retry.NO, "default features, flag cold_start")


class CaseNotFound(FraudStreamError):
    """No such alert or case."""

    outcome = Outcome("NOT_FOUND", Retry.NO, "default features, flag cold_start")


class OnlineStoreUnavailable(FraudStreamError):
    """The store does not answer in time."""

    outcome = Outcome("UNAVAILABLE", Retry.BACKOFF, "pause the partition")


class ShardClosed(FraudStreamError):
    """A shard's marker is missing, or names another log, layout or primary."""

    outcome = Outcome("FAILED_PRECONDITION", Retry.REREAD, "pause the partition")


class ShardMoved(FraudStreamError):
    """A shard's marker does not stand where this batch begins: another worker was there."""

    outcome = Outcome("ABORTED", Retry.REREAD, "forget the position, read the marker, seek to it")


class ModelNotLoaded(FraudStreamError):
    """No model is ready to serve."""

    outcome = Outcome("UNAVAILABLE", Retry.BACKOFF, "pause the partition")


class EngineFailed(ModelNotLoaded):
    """A GPU engine cannot compute now; another engine may.

    Attributes:
        reason: `LIBRARY_ABSENT`, `GPU_ABSENT`, `GPU_MEMORY` or `GPU_FAILED`.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside a message that says what was expected and found."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class ModelRefused(FraudStreamError):
    """A model artefact is not fit to serve.

    Attributes:
        reason: Machine-readable code such as `MODEL_CORRUPT`.
    """

    outcome = Outcome("FAILED_PRECONDITION", Retry.NO, "refuse to start")

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside a message that says what was expected and found."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason

    @property
    def exit_code(self) -> int:
        """What a command that met it exits with (sysexits).

        >>> ModelRefused("MODEL_UNTRUSTED", "nobody signed it").exit_code
        77
        """
        codes = {"MODEL_UNTRUSTED": os.EX_NOPERM, "MODEL_CONFIG": os.EX_CONFIG}
        return codes.get(self.reason, os.EX_DATAERR)


class RuleSetRefused(FraudStreamError):
    """A rule set is not fit to serve.

    Attributes:
        reason: `RULES_FILE`, `RULES_CONDITION`, `RULES_VERSION`, `RULES_HASH` or
            `RULES_UNTRUSTED`.
    """

    outcome = Outcome("FAILED_PRECONDITION", Retry.NO, "refuse to start; serving, keep the old one")

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside a message that says where it is and what was expected."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message

    @property
    def exit_code(self) -> int:
        """What a command that met it exits with (sysexits).

        >>> RuleSetRefused("RULES_FILE", "not TOML").exit_code
        65
        """
        return os.EX_NOPERM if self.reason == "RULES_UNTRUSTED" else os.EX_DATAERR


class FeatureSpecMismatch(FraudStreamError):
    """The model needs features that are not there, or the vector has another layout."""

    outcome = Outcome("FAILED_PRECONDITION", Retry.NO, "refuse to start")


class CaseChanged(FraudStreamError):
    """Somebody else changed the alert or case first (optimistic lock)."""

    outcome = Outcome("ABORTED", Retry.REREAD, "-")


class Overloaded(FraudStreamError):
    """The in-flight cap is reached."""

    outcome = Outcome("RESOURCE_EXHAUSTED", Retry.LATER, "backpressure")


class DeadlineExceeded(FraudStreamError):
    """The deadline had passed on arrival."""

    outcome = Outcome("DEADLINE_EXCEEDED", Retry.IF_IDEMPOTENT, "stand-in decision, flag degraded")


class BrokerUnavailable(FraudStreamError):
    """Kafka did not acknowledge in time."""

    outcome = Outcome("UNAVAILABLE", Retry.BACKOFF, "pause the partition")


class LogReplaced(FraudStreamError):
    """A topic was made anew while it was read: a new start begins with the new one (exit 75)."""

    outcome = Outcome("ABORTED", Retry.LATER, "end without keeping the rows; start again")


class InvalidSettings(FraudStreamError):
    """A setting, key file or topic is not as it must be; the service does not start (exit 78)."""

    outcome = Outcome("FAILED_PRECONDITION", Retry.NO, "refuse to start")
