"""The gRPC door where the engine has no room: the answer is a stand-in, not an error."""

from __future__ import annotations

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

    async def record(self, rows: Sequence[Placed]) -> list[Decision]:
        """Return each as it came."""
        return [row.written.decision for row in rows]


class NoShadows:
    """No challenger."""

    def add(self, _: object) -> None:
        """Score nothing."""


async def test_full_queue_gives_a_stand_in() -> None:
    """A caller at a terminal waits for an answer, and rules can give one."""
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
    door = FrontDoor(parts, cast("Any", FakeFeatures()), cast("Any", FakeRecords()))
    reception = Reception(None, indicative_rate_table(), 1, 0.0, TimeBounds(), clock_ms)
    caller = Caller(True, None)
    arrivals = [reception.receive(some_transaction(number), caller) for number in range(2)]

    answers = await door.decide(arrivals, budget_s=5.0)

    for answer in answers:
        assert isinstance(answer, Decision)
        assert answer.stand_in_cause == StandInCause.STAND_IN_CAUSE_QUEUE_FULL
        assert answer.action == Action.ACTION_REVIEW
        assert [reason.code for reason in answer.reasons] == ["STAND_IN_QUEUE_FULL"]
