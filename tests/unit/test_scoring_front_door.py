"""The gRPC door under load: a full engine gives stand-ins, and a large batch holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from fraudstream.errors import Overloaded
from fraudstream.features.catalogue import FEATURE_NAMES, SEQUENCE_CHANNELS, SEQUENCE_LENGTH
from fraudstream.money import indicative_rate_table
from fraudstream.settings import TelemetrySettings
from fraudstream.shard import AdmitOutcome, DoorAnswer
from fraudstream.telemetry import Telemetry
from fraudstream.transaction import TimeBounds
from fraudstream.v1.decision_pb2 import Action, Decision, Freshness, StandInCause
from services.scoring.build import clock_ms, clock_us
from services.scoring.door_features import Admission, RowFeatures
from services.scoring.door_records import Placed
from services.scoring.door_row import Arrival, Caller, Reception
from services.scoring.front_door import FrontDoor
from services.scoring.judge import Judged
from services.scoring.observe import Observer
from services.scoring.parts import DoorParts
from services.scoring.rules_in_force import RulesInForce, load_rule_set
from tests.scoring_world import some_transaction
from tests.trust import RULES_FILE


class FullJudge:
    """A judge in front of whose engine too many rows wait."""

    has_model = True

    async def judge(self, *_: object) -> Judged:
        """Take no row."""
        raise Overloaded("4096 rows wait for the engine")


class FakeFeatures:
    """Admits every arrival, with features that are all 0."""

    async def admit(self, arrivals: Sequence[Arrival]) -> list[Admission]:
        """Return one admission each."""
        features = RowFeatures(
            np.zeros(len(FEATURE_NAMES), np.float32),
            np.zeros((SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS)), np.float32),
            Freshness(),
        )
        return [
            Admission(DoorAnswer(AdmitOutcome.ADMITTED, b"", None, (), 0), features)
            for _ in arrivals
        ]


class FakeRecords:
    """Keeps decisions in memory."""

    def __init__(self) -> None:
        self.kept: list[Decision] = []

    async def record(self, rows: Sequence[Placed]) -> list[Decision]:
        """Return each as it came."""
        decisions = [row.written.decision for row in rows]
        self.kept += decisions
        return decisions


class NoShadows:
    """No challenger."""

    def add(self, _: object) -> None:
        """Score nothing."""


def _door(records: FakeRecords) -> FrontDoor:
    parts = DoorParts(
        judge=FullJudge(),
        shadows=cast("Any", NoShadows()),
        rules=RulesInForce(load_rule_set(RULES_FILE)),
        store=cast("Any", None),
        publisher=cast("Any", None),
        observer=Observer(Telemetry(TelemetrySettings(), "scoring")),
        clock_us=clock_us,
        cpu_class="test",
        partitions=1,
        sample_ratio=0.0,
    )
    return FrontDoor(parts, cast("Any", FakeFeatures()), cast("Any", records))


def _arrivals(numbers: range) -> list[Arrival]:
    reception = Reception(None, indicative_rate_table(), 1, 0.0, TimeBounds(), clock_ms)
    return [reception.receive(some_transaction(n), Caller(True, None)) for n in numbers]


async def test_full_queue_gives_a_stand_in() -> None:
    """A caller at a terminal waits for an answer, and rules can give one."""
    answers = await _door(FakeRecords()).decide(_arrivals(range(2)), budget_s=5.0)

    for answer in answers:
        assert isinstance(answer, Decision)
        assert answer.stand_in_cause == StandInCause.STAND_IN_CAUSE_QUEUE_FULL
        assert answer.action == Action.ACTION_REVIEW
        assert [reason.code for reason in answer.reasons] == ["STAND_IN_QUEUE_FULL"]


async def test_large_batch_lets_other_callers_in_between() -> None:
    """A batch is decided in its order, a round at a time; one row that comes later is not last."""
    records = FakeRecords()
    door = _door(records)
    batch, single = _arrivals(range(200)), _arrivals(range(200, 201))

    answers, _ = await asyncio.gather(door.decide(batch, 5.0), door.decide(single, 5.0))

    decided = [decision.transaction_id for decision in records.kept]
    alone = single[0].transaction.transaction_id
    assert decided.index(alone) < 2 * 64
    decided.remove(alone)
    expected = [arrival.transaction.transaction_id for arrival in batch]
    assert decided == expected
    assert [answer.transaction_id for answer in answers if isinstance(answer, Decision)] == expected
