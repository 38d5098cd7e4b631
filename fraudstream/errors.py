"""One error tree, beside its mapping to gRPC status, retry advice and exit code."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final


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
        exit_code: What a command or service that ends by it exits with (sysexits).
    """

    status: str
    retry: Retry
    exit_code: int


class FraudStreamError(Exception):
    """Base of all errors that a caller can act on. `outcome` says how each boundary shows it."""

    outcome: ClassVar[Outcome] = Outcome("INTERNAL", Retry.NO, os.EX_SOFTWARE)

    @property
    def exit_code(self) -> int:
        """What a command or service that ends by it exits with (sysexits).

        >>> BrokerUnavailable("no acknowledgement").exit_code
        69
        """
        return self.outcome.exit_code


class ErrorWithReason(FraudStreamError):
    """Base of errors whose cause is one of a few.

    Attributes:
        reason: Machine-readable code such as `AMOUNT_SIGN`; never holds a value of a record.
        message: What was expected and what was found, without the reason.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside a message that says what was expected and found, without a PAN."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class InvalidTransaction(ErrorWithReason):
    """A transaction breaks the contract; the reason is one of `fraudstream.reject_reasons`."""

    outcome = Outcome("INVALID_ARGUMENT", Retry.NO, os.EX_DATAERR)


class LateTransaction(FraudStreamError):
    """A transaction is older than the lateness bound."""

    outcome = Outcome("OUT_OF_RANGE", Retry.NO, os.EX_DATAERR)


class ConflictingTransaction(FraudStreamError):
    """A known transaction id came with another body."""

    outcome = Outcome("ALREADY_EXISTS", Retry.NO, os.EX_DATAERR)


class UnknownService(FraudStreamError):
    """A health check asks for a service that is not here."""

    outcome = Outcome("NOT_FOUND", Retry.NO, os.EX_UNAVAILABLE)


class CaseNotFound(FraudStreamError):
    """No such alert or case."""

    outcome = Outcome("NOT_FOUND", Retry.NO, os.EX_DATAERR)


class OnlineStoreUnavailable(FraudStreamError):
    """The store does not answer in time."""

    outcome = Outcome("UNAVAILABLE", Retry.BACKOFF, os.EX_UNAVAILABLE)


class ShardClosed(FraudStreamError):
    """A shard's marker is missing, or names another log, layout or primary."""

    outcome = Outcome("FAILED_PRECONDITION", Retry.REREAD, os.EX_TEMPFAIL)


class ShardMoved(FraudStreamError):
    """A shard's marker does not stand where this batch begins: another worker was there."""

    outcome = Outcome("ABORTED", Retry.REREAD, os.EX_TEMPFAIL)


class ModelNotLoaded(FraudStreamError):
    """No model is ready to serve."""

    outcome = Outcome("UNAVAILABLE", Retry.BACKOFF, os.EX_UNAVAILABLE)


class EngineFailed(ErrorWithReason, ModelNotLoaded):
    """A GPU engine cannot compute now; another engine may.

    Attributes:
        reason: `LIBRARY_ABSENT`, `GPU_ABSENT`, `GPU_MEMORY` or `GPU_FAILED`.
    """


class ModelRefused(ErrorWithReason):
    """A model artefact is not fit to serve.

    Attributes:
        reason: Machine-readable code such as `MODEL_CORRUPT`.
    """

    outcome = Outcome("FAILED_PRECONDITION", Retry.NO, os.EX_DATAERR)

    @property
    def exit_code(self) -> int:
        """What a command that met it exits with (sysexits).

        >>> ModelRefused("MODEL_UNTRUSTED", "nobody signed it").exit_code
        77
        """
        codes = {"MODEL_UNTRUSTED": os.EX_NOPERM, "MODEL_CONFIG": os.EX_CONFIG}
        return codes.get(self.reason, self.outcome.exit_code)


class RuleSetRefused(ErrorWithReason):
    """A rule set is not fit to serve.

    Attributes:
        reason: `RULES_FILE`, `RULES_CONDITION`, `RULES_VERSION`, `RULES_HASH` or
            `RULES_UNTRUSTED`.
    """

    outcome = Outcome("FAILED_PRECONDITION", Retry.NO, os.EX_DATAERR)

    @property
    def exit_code(self) -> int:
        """What a command that met it exits with (sysexits).

        >>> RuleSetRefused("RULES_FILE", "not TOML").exit_code
        65
        """
        return os.EX_NOPERM if self.reason == "RULES_UNTRUSTED" else self.outcome.exit_code


class SignatureRefused(FraudStreamError):
    """A signature does not count here; whoever checked it says of what (`fraudstream.signing`)."""

    outcome = Outcome("FAILED_PRECONDITION", Retry.NO, os.EX_NOPERM)


class FeatureSpecMismatch(FraudStreamError):
    """The model needs features that are not there, or the vector has another layout."""

    outcome = Outcome("FAILED_PRECONDITION", Retry.NO, os.EX_CONFIG)


class CaseChanged(FraudStreamError):
    """Somebody else changed the alert or case first (optimistic lock)."""

    outcome = Outcome("ABORTED", Retry.REREAD, os.EX_TEMPFAIL)


class Overloaded(FraudStreamError):
    """The in-flight cap is reached."""

    outcome = Outcome("RESOURCE_EXHAUSTED", Retry.LATER, os.EX_TEMPFAIL)


class QuotaExceeded(FraudStreamError):
    """A caller had as many card numbers turned into tokens as it may in this time.

    Attributes:
        retry_after_ms: When it has one more; 0 where that is not known.
    """

    outcome = Outcome("RESOURCE_EXHAUSTED", Retry.LATER, os.EX_TEMPFAIL)
    retry_after_ms: int = 0


class DeadlineExceeded(FraudStreamError):
    """The deadline had passed on arrival."""

    outcome = Outcome("DEADLINE_EXCEEDED", Retry.IF_IDEMPOTENT, os.EX_TEMPFAIL)


class BrokerUnavailable(FraudStreamError):
    """Kafka did not acknowledge in time."""

    outcome = Outcome("UNAVAILABLE", Retry.BACKOFF, os.EX_UNAVAILABLE)


class StreamStalled(FraudStreamError):
    """A stream does not go on though its broker answers: a new start helps (exit 75)."""

    outcome = Outcome("UNAVAILABLE", Retry.BACKOFF, os.EX_TEMPFAIL)


class LogReplaced(FraudStreamError):
    """A topic was made again while it was read: a new start begins with the new one (exit 75)."""

    outcome = Outcome("ABORTED", Retry.LATER, os.EX_TEMPFAIL)


class Unauthenticated(FraudStreamError):
    """A call brings no token or certificate that is known here and still counts."""

    outcome = Outcome("UNAUTHENTICATED", Retry.NO, os.EX_NOPERM)


class PermissionDenied(FraudStreamError):
    """A caller is known, and may not call this method."""

    outcome = Outcome("PERMISSION_DENIED", Retry.NO, os.EX_NOPERM)


class ServiceUnavailable(FraudStreamError):
    """No scorer answers a client's call."""

    outcome = Outcome("UNAVAILABLE", Retry.BACKOFF, os.EX_UNAVAILABLE)


class InvalidSettings(FraudStreamError):
    """A setting, key file or topic is missing or invalid; the service does not start (exit 78)."""

    outcome = Outcome("FAILED_PRECONDITION", Retry.NO, os.EX_CONFIG)


class MissingFile(InvalidSettings):
    """A file that a command line names cannot be read (exit 66)."""

    outcome = Outcome("FAILED_PRECONDITION", Retry.NO, os.EX_NOINPUT)


# gRPC trailing metadata that says which error it was.
REASON_KEY: Final = "fraud-reason"

# What a caller of `Scoring` can meet; the base class stands for a fault of ours.
CALLER_ERRORS: Final[tuple[type[FraudStreamError], ...]] = (
    InvalidTransaction,
    LateTransaction,
    ConflictingTransaction,
    Unauthenticated,
    PermissionDenied,
    Overloaded,
    QuotaExceeded,
    DeadlineExceeded,
    BrokerUnavailable,
    ServiceUnavailable,
    FeatureSpecMismatch,
    FraudStreamError,
)

# What a status means to a client where the server named no class of ours.
_BY_STATUS: Final[dict[str, type[FraudStreamError]]] = {
    "OUT_OF_RANGE": LateTransaction,
    "ALREADY_EXISTS": ConflictingTransaction,
    "RESOURCE_EXHAUSTED": Overloaded,
    "CANCELLED": Overloaded,  # by the server: calls come faster than it can refuse them
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "UNAVAILABLE": ServiceUnavailable,
}


def reason_of(error: FraudStreamError) -> str:
    """Return what travels beside an error's status: its reason code, else the name of its class.

    >>> reason_of(InvalidTransaction("AMOUNT_SIGN", "expected >= 0")), reason_of(Overloaded("full"))
    ('AMOUNT_SIGN', 'Overloaded')
    """
    return str(getattr(error, "reason", type(error).__name__))


def error_of(status: str, reason: str, message: str) -> FraudStreamError:
    """Return the error that a server told a client of.

    Args:
        status: Name of the gRPC status code.
        reason: As `reason_of` made it; empty where gRPC itself failed the call.
        message: The status message.

    >>> error_of("UNAVAILABLE", "BrokerUnavailable", "no acknowledgement")
    BrokerUnavailable('no acknowledgement')
    >>> error_of("INVALID_ARGUMENT", "AMOUNT_SIGN", "AMOUNT_SIGN: expected >= 0").reason
    'AMOUNT_SIGN'
    >>> type(error_of("RESOURCE_EXHAUSTED", "", "message larger than max")).__name__
    'Overloaded'
    """
    if status == InvalidTransaction.outcome.status:
        return InvalidTransaction(reason, message.removeprefix(f"{reason}: "))
    named = next((c for c in FraudStreamError.__subclasses__() if c.__name__ == reason), None)
    if named is not None and named.outcome.status == status and "__init__" not in vars(named):
        return named(message)
    return _BY_STATUS.get(status, FraudStreamError)(message)
