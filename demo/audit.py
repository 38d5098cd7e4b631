"""What the topics say at the end: which accepted transactions have their decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fraudstream.identity import Identity, digest_of, identity_of
from fraudstream.log_reader import LogReader, LogRecord
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, DLQ, LATE, Topic
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.transaction_pb2 import Transaction


@dataclass(frozen=True, slots=True)
class Account:
    """Counts over whole topics.

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


def decisions_by_id(records: Iterable[LogRecord]) -> tuple[dict[str, Decision], set[str]]:
    """Return the first decision of each identity, and the ids whose copies differ."""
    first: dict[str, Decision] = {}
    forked = set()
    for record in records:
        decision = Decision.FromString(record.value)
        known = first.setdefault(decision.decision_id, decision)
        if known is not decision and known.SerializeToString() != decision.SerializeToString():
            forked.add(decision.decision_id)
    return first, forked


def audit_line(settings: KafkaSettings) -> Account:
    """Read the line's topics to their ends and count. Takes some seconds for 100,000 records."""
    accepted = AcceptedLog()
    for record in _records(settings, ACCEPTED):
        accepted.add(record)
    decisions, forked = decisions_by_id(_records(settings, DECISIONS))
    alerts = {Alert.FromString(r.value).alert_id for r in _records(settings, ALERTS)}
    letters = {_source_of(record): record for record in _records(settings, DLQ)}
    late = list(_records(settings, LATE))
    late_ids = {identity_in(_transaction_in(record)).hex() for record in late}
    missing = accepted.digests.keys() - decisions.keys() - late_ids
    reasons: dict[str, int] = {}
    for record in letters.values():
        reason = _header(record, "reason")
        reasons[reason] = reasons.get(reason, 0) + 1
    return Account(
        accepted=len(accepted.digests),
        decided=len(decisions),
        missing=tuple(sorted(missing)),
        forked=len(forked),
        duplicates=accepted.duplicates,
        conflicts=accepted.conflicts,
        alerts=len(alerts),
        dead_lettered=len(letters),
        late=len(late),
        dead_letters_by_reason=dict(sorted(reasons.items())),
    )


def _records(settings: KafkaSettings, topic: Topic) -> Iterable[LogRecord]:
    with LogReader(settings, [topic]) as reader:
        yield from reader.to_end()


def _transaction_in(record: LogRecord) -> Transaction:
    return AcceptedTransaction.FromString(record.value).transaction


def _header(record: LogRecord, name: str) -> str:
    found = next((content for key, content in record.headers if key == name), b"")
    return found.decode(errors="replace")


def _source_of(record: LogRecord) -> tuple[str, str, str]:
    """Return where a dead letter came from: a crash may write one twice."""
    return _header(record, "topic"), _header(record, "partition"), _header(record, "offset")
