"""The demo's own arithmetic: disorder in the traffic, the tally, chargebacks in time."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from demo.chargebacks import Chargebacks
from demo.tally import Tally
from fraudstream.transaction.formats import JSON
from fraudstream.transaction.json_form import decode_json
from fraudstream.v1.decision_pb2 import (
    ACTION_APPROVE,
    ACTION_DECLINE,
    Action,
    Decision,
    StageTimings,
)
from fraudstream.v1.transaction_pb2 import Transaction
from harness.traffic import Disorder, RawRecord, Sent, raw_records
from training.simulator.simulate import SimulationSettings, live_traffic

_SETTINGS = SimulationSettings(seed=77, cards=300, rate_per_s=100.0)


def _records(number: int, disorder: Disorder) -> list[RawRecord]:
    return list(islice(raw_records(live_traffic(_SETTINGS), disorder, seed=5), number))


def _decode(record: RawRecord) -> Transaction:
    if record.content_type == JSON:
        return decode_json(record.value)
    return Transaction.FromString(record.value)


def _fresh(transaction_id: str, *, is_fraud: bool) -> RawRecord:
    return RawRecord(Sent.FRESH, b"k", b"v", JSON, "b", transaction_id, 0, is_fraud)


def _decision(transaction_id: str, action: Action, latency_ms: int) -> Decision:
    return Decision(
        bank_id="b",
        transaction_id=transaction_id,
        action=action,
        timings=StageTimings(
            raw_appended_us=1_000_000, scoring_ended_us=1_000_000 + latency_ms * 1_000
        ),
    )


def test_disorder_comes_in_its_shares() -> None:
    """Duplicates, conflicts and bad records come about as often as they were asked for."""
    kinds = Counter(r.sent for r in _records(4_000, Disorder(0.05, 0.02, 0.03)))

    assert 120 < kinds[Sent.DUPLICATE] < 280
    assert 40 < kinds[Sent.CONFLICT] < 130
    assert 60 < kinds[Sent.BAD] < 190


def test_a_conflict_differs_from_its_original_in_its_amount() -> None:
    """A conflicting record has the id of an earlier one and another amount."""
    records = _records(2_000, Disorder(0, 0.05, 0))
    first = {(r.bank_id, r.transaction_id): _decode(r) for r in records if r.sent is Sent.FRESH}
    conflicts = [_decode(r) for r in records if r.sent is Sent.CONFLICT]
    originals = [first[c.bank_id, c.transaction_id] for c in conflicts]

    assert conflicts
    assert all(c.amount_minor != o.amount_minor for c, o in zip(conflicts, originals, strict=True))


def test_copies_of_a_transaction_share_a_key() -> None:
    """All records of one transaction go to one partition, so that they stay in order."""
    keys: dict[str, set[bytes]] = {}
    for record in _records(2_000, Disorder(0.1, 0.1, 0)):
        keys.setdefault(record.transaction_id, set()).add(record.key)

    assert all(len(found) == 1 for found in keys.values())


def test_tally_counts_a_decision_once() -> None:
    """A second copy of a decision changes nothing."""
    tally = Tally(started_ms=0)
    tally.add_sent(_fresh("1", is_fraud=True))
    is_first = tally.add_decision(_decision("1", ACTION_DECLINE, 5), now_ms=1_000)
    is_second = tally.add_decision(_decision("1", ACTION_DECLINE, 5), now_ms=1_000)
    snapshot = tally.snapshot(now_ms=1_000)

    assert (is_first, is_second) == (True, False)
    assert snapshot.decided == {"decline": 1}
    assert (snapshot.caught, snapshot.missed, snapshot.lag) == (1, 0, 0)


def test_an_approved_fraud_is_missed() -> None:
    """A fraud that was approved counts as missed, one not decided yet as lag."""
    tally = Tally(started_ms=0)
    tally.add_sent(_fresh("1", is_fraud=True))
    tally.add_sent(_fresh("2", is_fraud=False))
    tally.add_decision(_decision("1", ACTION_APPROVE, 7), now_ms=1_000)
    snapshot = tally.snapshot(now_ms=1_000)

    assert (snapshot.caught, snapshot.missed, snapshot.lag) == (0, 1, 1)
    assert snapshot.p50_ms == 7.0


def test_chargebacks_come_when_they_are_due_in_order() -> None:
    """A chargeback comes once, its delay after its event, the earliest first."""
    chargebacks = Chargebacks(delay_ms=100)
    chargebacks.add(Decision(decision_id="b", event_time_ms=50))
    chargebacks.add(Decision(decision_id="a", event_time_ms=20))
    early = chargebacks.due(119)
    rest = chargebacks.due(150)

    assert early == []
    assert [label.label_id for label in rest] == ["chargeback-a", "chargeback-b"]
    assert chargebacks.due(10_000) == []
