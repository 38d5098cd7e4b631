"""Which effects of decisions the logs lack, so that a rebuild has them published again."""

from __future__ import annotations

from dataclasses import dataclass

from fraudstream.broker.topic_info import Log
from fraudstream.store.shard_store import RECORD_LIFE_S
from fraudstream.v1.decision_pb2 import Action, Decision
from services.features.rebuild.first_decisions import (
    FirstDecisions,
    MadeDecision,
    decode_alerts,
    decode_decisions,
)
from tests.worlds.accepted_rows import alert_about, decision_about, transaction_of

_LOG = Log("accepted", bytes(16), 1)
_NOW_MS = 1_700_000_000_000
# Before the oldest record here.
_EVENT_MS = _NOW_MS - RECORD_LIFE_S * 1_000


@dataclass(frozen=True)
class _Record:
    value: bytes | None
    timestamp: int = _NOW_MS
    topic: str = "a topic"
    partition: int = 0
    offset: int = 0


def _decision(
    name: str, action: Action = Action.ACTION_REVIEW, *, is_of_log: bool = True
) -> Decision:
    return decision_about(
        transaction_of(name, event_time_ms=_EVENT_MS), action, is_of_log=is_of_log
    )


def _made(decision: Decision, time_ms: int = _NOW_MS) -> MadeDecision:
    return decode_decisions([_Record(decision.SerializeToString(), time_ms)])[0]


def _decided(*made: MadeDecision) -> FirstDecisions:
    decided = FirstDecisions(_LOG, 0, _NOW_MS)
    decided.take(made)
    return decided


def test_review_without_an_alert_is_published_again() -> None:
    """An alert is an effect of its decision, and an approval asks for none."""
    review = _made(_decision("t-1"))
    approval = _made(_decision("t-2", Action.ACTION_APPROVE))

    assert _decided(review, approval).unfinished(has_same_log=True) == {review.identity}


def test_alert_in_the_log_is_not_raised_again() -> None:
    """What is no alert is passed over."""
    review = _made(_decision("t-1"))
    decided = _decided(review)
    alert = alert_about(_decision("t-1")).SerializeToString()
    decided.see_alerts(decode_alerts([_Record(b"\xff"), _Record(alert)]))

    assert not decided.has_unraised()
    assert decided.unfinished(has_same_log=True) == set()


def test_later_decision_of_an_identity_asks_for_nothing() -> None:
    """The first record of an identity is its decision."""
    approval = _made(_decision("t-1", Action.ACTION_APPROVE))

    assert not _decided(approval, _made(_decision("t-1"))).has_unraised()


def test_alert_that_retention_may_have_dropped_is_not_raised_again() -> None:
    """Whether a decision older than the first kept alert had one, nobody knows."""
    older, newer = _made(_decision("t-1"), _NOW_MS - 2_000), _made(_decision("t-2"))
    decided = _decided(older, newer)
    decided.forgive_alerts(_NOW_MS - 1_000)

    assert decided.unfinished(has_same_log=True) == {newer.identity}


def test_decision_whose_record_is_gone_is_not_published_again() -> None:
    """Its identity is free again: nothing in the store says what to publish."""
    old = _made(_decision("t-1"), _NOW_MS - RECORD_LIFE_S * 1000)

    assert not _decided(old).has_unraised()


def test_row_of_a_topic_that_was_made_anew_is_not_sent_for_the_sake_of_an_alert() -> None:
    """Publishing what came by gRPC appends its accepted row too."""
    of_log, by_grpc = _made(_decision("t-1")), _made(_decision("t-2", is_of_log=False))

    assert _decided(of_log, by_grpc).unfinished(has_same_log=False) == {of_log.identity}


def test_record_that_is_no_decision_of_a_transaction_costs_itself_alone() -> None:
    """A tombstone and an empty value are messages without content: no store record is of them."""
    good = _decision("t-1").SerializeToString()
    short = Decision(transaction_id="t-2", digest=b"short").SerializeToString()

    made = decode_decisions([_Record(v) for v in (None, b"", short, b"\xff", good)])

    assert [each.value for each in made] == [good]
