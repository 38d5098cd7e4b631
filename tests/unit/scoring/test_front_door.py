"""The gRPC door under load: a full engine gives stand-ins, and a large batch holds up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from fraudstream.errors import Overloaded
from fraudstream.features.catalogue import FEATURE_NAMES, SEQUENCE_CHANNELS, SEQUENCE_LENGTH
from fraudstream.store.shard import AdmitOutcome, DoorAnswer
from fraudstream.v1.decision_pb2 import Action, Decision, Freshness, StandInCause
from services.scoring.authorise.event_time import TimeLeft
from services.scoring.authorise.features import Admission, RowFeatures
from services.scoring.authorise.intake import Arrival
from services.scoring.authorise.pipeline import FrontDoor
from services.scoring.authorise.recording import Placed
from services.scoring.decision.verdict import Judged
from tests.worlds.door_parts import arrivals_of, front_door


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


def _door(records: FakeRecords) -> FrontDoor:
    return front_door(FullJudge(), FakeFeatures(), records)


async def test_full_queue_gives_a_stand_in() -> None:
    """A caller at a terminal waits for an answer, and rules can give one."""
    answers = await _door(FakeRecords()).decide(arrivals_of(range(2)), TimeLeft(5.0, 5.0))

    for answer in answers:
        assert isinstance(answer, Decision)
        assert answer.stand_in_cause == StandInCause.STAND_IN_CAUSE_QUEUE_FULL
        assert answer.action == Action.ACTION_REVIEW
        assert [reason.code for reason in answer.reasons] == ["STAND_IN_QUEUE_FULL"]


async def test_large_batch_lets_other_callers_in_between() -> None:
    """A batch is decided in its order, a round at a time; one row that comes later is not last."""
    records = FakeRecords()
    door = _door(records)
    batch, single = arrivals_of(range(200)), arrivals_of(range(200, 201))

    time = TimeLeft(5.0, 5.0)
    answers, _ = await asyncio.gather(door.decide(batch, time), door.decide(single, time))

    decided = [decision.transaction_id for decision in records.kept]
    alone = single[0].transaction.transaction_id
    assert decided.index(alone) < 2 * 64
    decided.remove(alone)
    expected = [arrival.transaction.transaction_id for arrival in batch]
    assert decided == expected
    assert [answer.transaction_id for answer in answers if isinstance(answer, Decision)] == expected
