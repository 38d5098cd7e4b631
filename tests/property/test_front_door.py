"""Every row of a call has one answer, in its order, wherever round and deadline meet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.errors import ConflictingTransaction, FraudStreamError, Overloaded, ShardClosed
from fraudstream.features.catalogue import FEATURE_NAMES, SEQUENCE_CHANNELS, SEQUENCE_LENGTH
from fraudstream.store.shard import AdmitOutcome, DoorAnswer
from fraudstream.v1.decision_pb2 import Decision, Freshness, StandInCause
from services.scoring.authorise.answers import for_caller
from services.scoring.authorise.event_time import TimeLeft
from services.scoring.authorise.features import Admission, Admitted, RowFeatures
from services.scoring.authorise.intake import Arrival
from services.scoring.authorise.recording import Answer, Placed, Provisional
from services.scoring.decision.feature_arrays import FeatureArrays
from services.scoring.decision.verdict import Judged, stand_in
from tests.worlds.door_parts import arrivals_of, front_door

_FEATURES = RowFeatures(
    np.zeros(len(FEATURE_NAMES), np.float32),
    np.zeros((SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS)), np.float32),
    Freshness(),
)


class Row(StrEnum):
    """What the store says of a row."""

    NEW = "new"
    KNOWN = "known"
    CONFLICT = "conflict"
    FULL = "full"
    CLOSED = "closed"


class Stage(StrEnum):
    """Where a round may stand still until the deadline of its callers is over."""

    NOWHERE = "nowhere"
    ADMIT = "admit"
    JUDGE = "judge"
    RECORD = "record"
    SEND = "send"


_TIMES = {
    Stage.NOWHERE: TimeLeft(5.0, 5.0),
    Stage.ADMIT: TimeLeft(0.0, 5.0),
    Stage.JUDGE: TimeLeft(0.0, 5.0),
    Stage.RECORD: TimeLeft(0.0, 0.001),
    Stage.SEND: TimeLeft(5.0, 0.001),
}


_OUTCOMES = {
    Row.NEW: AdmitOutcome.ADMITTED,
    Row.CONFLICT: AdmitOutcome.CONFLICT,
    Row.FULL: AdmitOutcome.FULL,
}


@dataclass
class FakeStore:
    """Features, judge and records over one memory; stands still where it is told to."""

    rows: dict[str, Row]
    stands_still: Stage
    goes_on: asyncio.Event

    has_model = True

    async def admit(self, arrivals: Sequence[Arrival]) -> list[Admitted]:
        """Answer each row as planned."""
        if self.stands_still is Stage.ADMIT:
            await self.goes_on.wait()
        return [self._admit(arrival) for arrival in arrivals]

    def _admit(self, arrival: Arrival) -> Admitted:
        name = arrival.transaction.transaction_id
        kind = self.rows[name]
        if kind is Row.CLOSED:
            return ShardClosed("closed")
        if kind is Row.KNOWN:
            value = Decision(transaction_id=name, model_hash="first").SerializeToString()
            return Admission(DoorAnswer(AdmitOutcome.EXISTS, value, None, (), 0))
        return Admission(DoorAnswer(_OUTCOMES[kind], b"", None, (), 0), _FEATURES)

    async def judge(self, arrays: FeatureArrays, *_: object) -> Judged:
        """Give each row a verdict."""
        if self.stands_still is Stage.JUDGE:
            await self.goes_on.wait()
        verdict = stand_in(StandInCause.STAND_IN_CAUSE_MODEL_FAILED)
        return Judged([verdict] * len(arrays.vectors))

    async def record(self, rows: Sequence[Placed]) -> list[Answer | Provisional]:
        """Keep what is new; a known one stays."""
        if self.stands_still is Stage.RECORD:
            await self.goes_on.wait()
        return [self._record(row.written.decision) for row in rows]

    async def _send(self) -> None:
        await self.goes_on.wait()

    def _record(self, decision: Decision) -> Answer | Provisional:
        kind = self.rows[decision.transaction_id]
        if kind is Row.CONFLICT:
            return ConflictingTransaction("known")
        if kind is Row.KNOWN:
            first = Decision(transaction_id=decision.transaction_id, model_hash="first")
            first.replayed = True
            return first
        if self.stands_still is Stage.SEND:
            return Provisional(decision, asyncio.create_task(self._send()))
        return for_caller(decision)


async def _decide(calls: list[list[Row]], stage: Stage) -> list[Sequence[Answer]]:
    count = sum(map(len, calls))
    arrivals = arrivals_of(range(count))
    kinds = [kind for call in calls for kind in call]
    rows = {a.transaction.transaction_id: kind for a, kind in zip(arrivals, kinds, strict=True)}
    store = FakeStore(rows, stage, asyncio.Event())
    if stage is Stage.NOWHERE:
        store.goes_on.set()
    door = front_door(store, store, store)
    places = iter(arrivals)
    asked = [[next(places) for _ in call] for call in calls]
    try:
        return await asyncio.gather(*(door.decide(call, _TIMES[stage]) for call in asked))
    finally:
        store.goes_on.set()


def _is_first(number: int, kind: Row, answer: Answer) -> bool:
    """Return whether a row has the answer that it has with store and broker at hand."""
    if kind is Row.CONFLICT:
        return isinstance(answer, ConflictingTransaction)
    if isinstance(answer, FraudStreamError):
        return kind is Row.FULL and isinstance(answer, Overloaded)
    is_own = answer.transaction_id == f"t-{number}" and not answer.provisional
    return is_own and (answer.model_hash == "first") is (kind is Row.KNOWN)


def _is_provisional(number: int, answer: Answer) -> bool:
    return (
        isinstance(answer, Decision)
        and answer.transaction_id == f"t-{number}"
        and answer.provisional
    )


@given(
    st.lists(st.lists(st.sampled_from(Row), max_size=80), min_size=1, max_size=4),
    st.sampled_from(Stage),
)
def test_each_row_has_one_answer_in_its_order(calls: list[list[Row]], stage: Stage) -> None:
    """Known, late and given-up rows share rounds and calls; what is not recorded says so."""
    answered = asyncio.run(_decide(calls, stage))

    number = 0
    for call, answers in zip(calls, answered, strict=True):
        for kind, answer in zip(call, answers, strict=True):
            is_held_up = stage in (Stage.RECORD, Stage.SEND) and _is_provisional(number, answer)
            assert is_held_up or _is_first(number, kind, answer)
            number += 1
