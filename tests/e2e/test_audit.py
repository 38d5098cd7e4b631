"""The audit finds every fault that is planted into the evidence of a clean run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from fraudstream.transaction.identity import Identity, alert_id_of, decision_id_of, identity_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import ACTION_APPROVE, ACTION_DECLINE, ACTION_REVIEW, Decision
from fraudstream.v1.transaction_pb2 import Transaction
from tests.e2e.audit import DeadLetter, Entry, Evidence, Expected, audit

_ACTIONS = (ACTION_APPROVE, ACTION_REVIEW, ACTION_DECLINE)
_STATES = {"card:1": b"\x01\x02", "card:2": b"\x03\x04"}
_LEDGER = [
    *(Entry(("b", str(n)), 100 + n, Expected.DECIDED, ("raw", 0, n)) for n in range(6)),
    Entry(("b", "3"), 103, Expected.DUPLICATE, ("raw", 0, 6)),
    Entry(("b", "4"), 999, Expected.CONFLICT, ("raw", 0, 7)),
    Entry(("b", "bad"), -1, Expected.DEAD_LETTER, ("raw", 0, 8)),
]


def _decision(number: int) -> Decision:
    return Decision(
        decision_id=decision_id_of(identity_of("b", "token", str(number))),
        bank_id="b",
        transaction_id=str(number),
        action=_ACTIONS[number % 3],
        score=0.25,
        vector=b"vector",
        transaction=Transaction(amount_minor=100 + number),
    )


def _alert(decision: Decision) -> Alert:
    alert_id = alert_id_of(Identity(bytes.fromhex(decision.decision_id)))
    alert = Alert(alert_id=alert_id, decision=decision)
    alert.decision.ClearField("vector")
    return alert


def _clean() -> Evidence:
    decisions = [_decision(number) for number in range(6)]
    return Evidence(
        decisions=[*decisions, decisions[2]],
        alerts=[_alert(d) for d in decisions if d.action != ACTION_APPROVE],
        dead_letters=[
            DeadLetter("ingest", "AMOUNT_SIGN", ("raw", 0, 8)),
            DeadLetter("features", "ID_CONFLICT", ("accepted", 1, 7)),
        ],
        states=_STATES,
    )


def _changed(decision: Decision, **fields: object) -> Decision:
    other = Decision()
    other.CopyFrom(decision)
    for name, content in fields.items():
        setattr(other, name, content)
    return other


def _fork(evidence: Evidence) -> Evidence:
    again = _changed(evidence.decisions[0], score=0.5)
    return replace(evidence, decisions=[*evidence.decisions, again])


def _take_conflicting_body(evidence: Evidence) -> Evidence:
    body = _changed(evidence.decisions[4])
    body.transaction.amount_minor = 999
    decisions = [body if d.transaction_id == "4" else d for d in evidence.decisions]
    return replace(evidence, decisions=decisions)


def _random_alert_id(evidence: Evidence) -> Evidence:
    stranger = Alert(alert_id="f" * 32, decision=evidence.alerts[0].decision)
    return replace(evidence, alerts=[*evidence.alerts, stranger])


def _alert_of_another_score(evidence: Evidence) -> Evidence:
    twisted = Alert()
    twisted.CopyFrom(evidence.alerts[0])
    twisted.decision.score = 0.75
    return replace(evidence, alerts=[*evidence.alerts[1:], twisted])


_FAULTS: list[tuple[str, Callable[[Evidence], Evidence]]] = [
    ("accepted without a decision", lambda e: replace(e, decisions=e.decisions[1:])),
    ("two different decisions", _fork),
    ("decided without being sent", lambda e: replace(e, decisions=[*e.decisions, _decision(77)])),
    ("decided with another amount", _take_conflicting_body),
    (
        "not a finite score in 0 to 1",
        lambda e: replace(e, decisions=[_changed(_decision(0), score=math.nan)]),
    ),
    ("needs a person and raised no alert", lambda e: replace(e, alerts=e.alerts[1:])),
    ("alert that no decision asks for", _random_alert_id),
    ("alert that differs from its decision", _alert_of_another_score),
    ("bad record without a dead letter", lambda e: replace(e, dead_letters=e.dead_letters[1:])),
    (
        "dead letter of a good record",
        lambda e: replace(
            e, dead_letters=[*e.dead_letters, DeadLetter("ingest", "DECODE", ("raw", 0, 1))]
        ),
    ),
    ("conflict without a dead letter", lambda e: replace(e, dead_letters=e.dead_letters[:1])),
    ("left in an outbox", lambda e: replace(e, unpublished=1)),
    ("not committed", lambda e: replace(e, uncommitted={"ingest": 3})),
    ("card state missing", lambda e: replace(e, states={"card:1": b"\x01\x02"})),
    ("card state too many", lambda e: replace(e, states={**_STATES, "card:3": b""})),
    ("card state differs", lambda e: replace(e, states={**_STATES, "card:2": b"\x03\x05"})),
]


def test_a_clean_run_has_no_findings() -> None:
    """Equal copies of a decision, duplicates and conflicts that were sorted out are no fault."""
    assert audit(_LEDGER, _clean(), _STATES) == []


@pytest.mark.parametrize(("check", "plant"), _FAULTS, ids=[name for name, _ in _FAULTS])
def test_the_audit_finds_a_planted_fault(check: str, plant: Callable[[Evidence], Evidence]) -> None:
    """Each promise, broken in otherwise clean evidence, is found by its own check."""
    found = {finding.check for finding in audit(_LEDGER, plant(_clean()), _STATES)}

    assert check in found
