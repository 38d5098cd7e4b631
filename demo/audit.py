"""What the topics say at the end: which accepted transactions have their decision."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from fraudstream.broker.log_reader import LogReader, LogRecord
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, DLQ, LATE, Topic
from fraudstream.transaction.identity import Identity, digest_of, identity_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.transaction_pb2 import Transaction


@dataclass(frozen=True, slots=True)
class Account:
    """Counts over what the topics took since an audit began.

    Attributes:
        accepted: Distinct identities accepted.
        decided: Distinct identities decided.
        missing: Accepted, not late, and without a decision: ids for a message.
        forked: Identities with two decisions that differ.
        duplicates: Accepted records that repeat an earlier one.
        conflicts: Accepted records that know an id with another body.
        alerts: Distinct alerts.
        dead_lettered: Distinct source records dead-lettered.
        late: Late records.
        dead_letters_by_reason: Their counts by reason.
    """

    accepted: int
    decided: int
    missing: tuple[str, ...]
    forked: int
    duplicates: int
    conflicts: int
    alerts: int
    dead_lettered: int
    late: int
    dead_letters_by_reason: dict[str, int]

    @property
    def is_complete(self) -> bool:
        """Whether every accepted transaction has one decision."""
        return not self.missing and self.forked == 0

    @property
    def records(self) -> int:
        """Records that came to the line, whoever sent them and by whichever door."""
        counted = self.decided + len(self.missing) + self.late
        return counted + self.duplicates + self.dead_lettered


def identity_in(transaction: Transaction) -> Identity:
    """Return the identity of a canonical transaction."""
    return identity_of(transaction.bank_id, transaction.card_token, transaction.transaction_id)


class AcceptedLog:
    """The accepted topic so far: distinct identities, duplicates, conflicts."""

    def __init__(self) -> None:
        self.digests: dict[str, bytes] = {}
        self.duplicates = 0
        self.conflicts = 0

    def add(self, record: LogRecord) -> None:
        """Count one accepted record; one that repeats the first one's digest is a duplicate."""
        transaction = AcceptedTransaction.FromString(record.value).transaction
        digest = digest_of(transaction)
        first = self.digests.setdefault(identity_in(transaction).hex(), digest)
        if first is not digest:
            self.duplicates += first == digest
            self.conflicts += first != digest


class DecisionLog:
    """The decisions topic so far: distinct decisions, and those whose copies differ."""

    def __init__(self) -> None:
        self.digests: dict[str, bytes] = {}
        self.forked: set[str] = set()

    def add(self, record: LogRecord) -> None:
        """Count one decision; a copy of it counts once."""
        decision = Decision.FromString(record.value)
        digest = hashlib.sha256(decision.SerializeToString(deterministic=True)).digest()
        if self.digests.setdefault(decision.decision_id, digest) != digest:
            self.forked.add(decision.decision_id)


class LineAudit:
    """Counts what the topics of a line take from now on: what is there already is another run's.

    Memory: about 200 bytes a record.

    Args:
        settings: Where Kafka is.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._accepted = AcceptedLog()
        self._decided = DecisionLog()
        self._alerts: set[str] = set()
        self._reason_of_source: dict[tuple[str, str, str], str] = {}
        self._late: list[str] = []
        counting: dict[Topic, Callable[[LogRecord], None]] = {
            ACCEPTED: self._accepted.add,
            DECISIONS: self._decided.add,
            ALERTS: self._add_alert,
            DLQ: self._add_dead_letter,
            LATE: self._add_late,
        }
        self._counting = {settings.topic(topic): add for topic, add in counting.items()}
        self._reader = LogReader(settings, list(counting), from_end=True)

    def account(self) -> Account:
        """Read to the ends and count, once. Takes some seconds for 100,000 records."""
        with self._reader:
            for record in self._reader.to_end():
                self._counting[record.topic](record)
        accepted, decided = self._accepted, self._decided
        missing = accepted.digests.keys() - decided.digests.keys() - set(self._late)
        reasons = Counter(self._reason_of_source.values())
        return Account(
            accepted=len(accepted.digests),
            decided=len(decided.digests),
            missing=tuple(sorted(missing)),
            forked=len(decided.forked),
            duplicates=accepted.duplicates,
            conflicts=accepted.conflicts,
            alerts=len(self._alerts),
            dead_lettered=len(self._reason_of_source),
            late=len(self._late),
            dead_letters_by_reason=dict(sorted(reasons.items())),
        )

    def _add_alert(self, record: LogRecord) -> None:
        self._alerts.add(Alert.FromString(record.value).alert_id)

    def _add_dead_letter(self, record: LogRecord) -> None:
        self._reason_of_source[_source_of(record)] = _header(record, "reason")

    def _add_late(self, record: LogRecord) -> None:
        late = AcceptedTransaction.FromString(record.value).transaction
        self._late.append(identity_in(late).hex())


def _header(record: LogRecord, name: str) -> str:
    found = next((content for key, content in record.headers if key == name), b"")
    return found.decode(errors="replace")


def _source_of(record: LogRecord) -> tuple[str, str, str]:
    """Return where a dead letter came from: a crash may write one twice."""
    return _header(record, "topic"), _header(record, "partition"), _header(record, "offset")
