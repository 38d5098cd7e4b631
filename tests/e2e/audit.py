"""The audit: what a run left in topics and store, against the ledger written before it was sent.

It shares no rule with the services but the contract: which actions call for a person, how alert
ids follow from decision ids. `findings` is empty for a run in which every effect happened once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from fraudstream.transaction.identity import Identity, alert_id_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import ACTION_DECLINE, ACTION_REVIEW, Decision

TransactionKey = tuple[str, str]
Source = tuple[str, int, int]

# `docs/glossary.md`: an alert is a decision that needs a person.
_FOR_A_PERSON: Final = frozenset({ACTION_REVIEW, ACTION_DECLINE})
_EXAMPLES: Final = 5


class Expected(StrEnum):
    """What must become of a raw record."""

    DECIDED = "decided"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    DEAD_LETTER = "dead letter"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger: a raw record as it was sent.

    Attributes:
        key: Bank id and transaction id.
        amount_minor: Its amount: what a conflict changes.
        expected: What must become of it.
        source: Where the raw topic took it; None where that is not known.
    """

    key: TransactionKey
    amount_minor: int
    expected: Expected
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of the dead-letter topic.

    Attributes:
        stage: Who wrote it.
        reason: Its reason.
        source: Where the record that it holds was read.
    """

    stage: str
    reason: str
    source: Source


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run left behind.

    Attributes:
        decisions: Every record of the decisions topic, in log order.
        alerts: Every record of the alerts topic.
        dead_letters: Every record of the dead-letter topic.
        unpublished: Entries left in the outboxes.
        states: Card states by their key in the store.
        uncommitted: Records that a consumer group has not committed, by group.
    """

    decisions: Sequence[Decision]
    alerts: Sequence[Alert]
    dead_letters: Sequence[DeadLetter]
    unpublished: int = 0
    states: Mapping[str, bytes] = field(default_factory=dict)
    uncommitted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise, with examples to look at."""

    check: str
    number: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.check}: {self.number}, such as {', '.join(self.examples)}"


def audit(
    ledger: Sequence[Entry], evidence: Evidence, states_without_kills: Mapping[str, bytes] | None
) -> list[Finding]:
    """Return the broken promises of a run; empty where there is none.

    Args:
        ledger: All raw records, in the order in which they were sent.
        evidence: What the run left.
        states_without_kills: Card states after the same records without a kill.
    """
    found = {
        **_judge_decisions(ledger, evidence.decisions),
        **_judge_alerts(evidence.decisions, evidence.alerts),
        **_judge_dead_letters(ledger, evidence.dead_letters),
        "left in an outbox": [str(evidence.unpublished)] * (evidence.unpublished > 0),
        "not committed": [f"{g} {n}" for g, n in evidence.uncommitted.items() if n],
    }
    if states_without_kills is not None:
        found |= _judge_states(evidence.states, states_without_kills)
    return [
        Finding(check, len(examples), tuple(examples[:_EXAMPLES]))
        for check, examples in found.items()
        if examples
    ]


def _judge_decisions(
    ledger: Sequence[Entry], decisions: Sequence[Decision]
) -> dict[str, list[str]]:
    wanted = {e.key: e.amount_minor for e in ledger if e.expected is Expected.DECIDED}
    copies: dict[TransactionKey, list[Decision]] = defaultdict(list)
    for decision in decisions:
        copies[decision.bank_id, decision.transaction_id].append(decision)
    return {
        "accepted without a decision": _names(wanted.keys() - copies.keys()),
        "decided without being sent": _names(copies.keys() - wanted.keys()),
        "two different decisions": _names(
            key for key, chunk in copies.items() if len({_bytes_of(d) for d in chunk}) > 1
        ),
        "decided with another amount": _names(
            key
            for key, chunk in copies.items()
            if key in wanted and chunk[0].transaction.amount_minor != wanted[key]
        ),
        "not a finite score in 0 to 1": _names(
            key for key, chunk in copies.items() if not 0.0 <= chunk[0].score <= 1.0
        ),
    }


def _judge_alerts(decisions: Sequence[Decision], alerts: Sequence[Alert]) -> dict[str, list[str]]:
    first: dict[str, Decision] = {}
    for decision in decisions:
        first.setdefault(decision.decision_id, decision)
    wanted = {
        alert_id_of(Identity(bytes.fromhex(decision.decision_id))): decision
        for decision in first.values()
        if decision.action in _FOR_A_PERSON
    }
    copies: dict[str, list[Alert]] = defaultdict(list)
    for alert in alerts:
        copies[alert.alert_id].append(alert)
    return {
        "needs a person and raised no alert": sorted(wanted.keys() - copies.keys()),
        "alert that no decision asks for": sorted(copies.keys() - wanted.keys()),
        "alert that differs from its decision": sorted(
            alert_id
            for alert_id, chunk in copies.items()
            if alert_id in wanted and any(not _agrees(a, wanted[alert_id]) for a in chunk)
        ),
    }


def _agrees(alert: Alert, decision: Decision) -> bool:
    """Return whether an alert holds its decision: all but vector, sequence and seal.

    Reasons that were an estimate when it was answered are measured ones on the alert.
    """
    expected, found = Decision(), Decision()
    expected.CopyFrom(decision)
    found.CopyFrom(alert.decision)
    for message in (expected, found):
        if decision.reasons_estimated:
            del message.reasons[:], message.past[:]
            message.reasons_estimated = False
    for name in ("vector", "sequence", "seal"):
        expected.ClearField(name)
    return _bytes_of(found) == _bytes_of(expected)


def _judge_dead_letters(
    ledger: Sequence[Entry], letters: Sequence[DeadLetter]
) -> dict[str, list[str]]:
    bad = {e.source for e in ledger if e.expected is Expected.DEAD_LETTER}
    from_ingest = {letter.source for letter in letters if letter.stage == "ingest"}
    conflicts = sum(e.expected is Expected.CONFLICT for e in ledger)
    from_features = {letter.source for letter in letters if letter.stage == "features"}
    # A crash of ingest may append a conflicting record to the accepted topic once more.
    lacking = max(0, conflicts - len(from_features))
    return {
        "bad record without a dead letter": _names(bad - from_ingest),
        "dead letter of a good record": _names(from_ingest - bad),
        "conflict without a dead letter": [str(lacking)] * (lacking > 0),
        "dead letter of features without a conflict": [
            str(len(from_features)) for _ in from_features if not conflicts
        ],
    }


def _judge_states(
    states: Mapping[str, bytes], without_kills: Mapping[str, bytes]
) -> dict[str, list[str]]:
    return {
        "card state missing": sorted(without_kills.keys() - states.keys()),
        "card state too many": sorted(states.keys() - without_kills.keys()),
        "card state differs": sorted(
            key for key in states.keys() & without_kills if states[key] != without_kills[key]
        ),
    }


def _bytes_of(decision: Decision) -> bytes:
    return decision.SerializeToString(deterministic=True)


def _names(keys: Iterable[object]) -> list[str]:
    return sorted(str(key) for key in keys)
