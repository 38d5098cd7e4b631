"""The authorisation path: decide transactions that downstream systems send, while they wait.

Order: a card's transactions are seen in the order of its pending list. Guarantee: every row has an
answer inside its deadline; an answered decision is recorded, and the same transaction again gets
the same decision, unless the answer says `provisional`. Bad rows fail alone. Budget: 100
microseconds a row beyond gRPC, the engine and the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fraudstream.errors import FraudStreamError, OnlineStoreUnavailable, Overloaded, ShardClosed
from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_SET_HASH,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.store.shard import AdmitOutcome
from fraudstream.v1.decision_pb2 import Decision, Freshness, StageTimings, StandInCause
from services.scoring.authorise.answers import conflict, provisional, repeated
from services.scoring.authorise.event_time import TimeLeft
from services.scoring.authorise.features import Admission, DoorFeatures, RowFeatures
from services.scoring.authorise.intake import Arrival
from services.scoring.authorise.recording import Answer, DoorRecords, Placed, Provisional
from services.scoring.authorise.rounds import Coalescer
from services.scoring.background.metrics import Observer
from services.scoring.decision.feature_arrays import FeatureArrays, Layout
from services.scoring.decision.maker import DecisionMaker
from services.scoring.decision.message import Subject
from services.scoring.decision.recorded import Written

# The engine's largest batch: some 20 ms of all that there is to do.
_ROUND: Final = 64
_NO_FRESHNESS: Final = Freshness()
_NO_TIMINGS: Final = StageTimings()
_LAYOUT: Final = Layout(FEATURE_HASHES, FEATURE_SET_HASH, SEQUENCE_HASH)


@dataclass(slots=True)
class _Case:
    """One arrival on its way: it ends with a decision, or with an answer that needs none."""

    arrival: Arrival
    started_us: int
    features: RowFeatures | None = None
    placed: Placed | None = None
    answer: Answer | Provisional | None = None
    is_recorded: bool = False
    is_given_up: bool = False

    @property
    def is_settled(self) -> bool:
        """Return whether there is an answer, or its decision is being recorded."""
        return self.is_recorded or self.answer is not None

    def subject(self) -> Subject:
        """Return what is decided about."""
        arrival, features = self.arrival, self.features
        return Subject(
            identity=arrival.identity,
            digest=arrival.row.digest,
            transaction=arrival.transaction,
            vector=features.vector.tobytes() if features else b"",
            sequence=features.sequence.tobytes() if features else b"",
            freshness=features.freshness if features else _NO_FRESHNESS,
            timings=_NO_TIMINGS,
            span=arrival.span,
            parent=None,
            offset=None,
            started_us=self.started_us,
            asked_by=arrival.asked_by,
        )


class FrontDoor:
    """Decides arrivals.

    Args:
        maker: Decides.
        observer: Takes what was decided.
        features: Admits rows and computes what they are decided by.
        records: Records and publishes decisions.
    """

    def __init__(
        self,
        maker: DecisionMaker,
        observer: Observer,
        features: DoorFeatures,
        records: DoorRecords,
    ) -> None:
        self._maker = maker
        self._observer = observer
        self._features = features
        self._records = records
        self._rounds: Coalescer[_Case, None] = Coalescer(self._decide_round, _ROUND)
        self._keeping: set[asyncio.Task[None]] = set()

    async def decide(self, arrivals: Sequence[Arrival], time: TimeLeft) -> Sequence[Answer]:
        """Return the decision of each arrival, or its error.

        A larger request is split into rounds, so that other callers are not blocked.

        Args:
            arrivals: Checked transactions.
            time: What is left of the caller's deadline.
        """
        now_s = asyncio.get_running_loop().time()
        give_up_s, answer_s = now_s + time.budget_s, now_s + time.answer_s
        answers: list[Answer] = []
        for begin in range(0, len(arrivals), _ROUND):
            answers += await self._decide_arrivals(
                arrivals[begin : begin + _ROUND], give_up_s, answer_s
            )
        return answers

    async def _decide_arrivals(
        self, arrivals: Sequence[Arrival], give_up_s: float, answer_s: float
    ) -> list[Answer]:
        cases = [_Case(arrival, self._maker.clock_us()) for arrival in arrivals]
        settled = self._rounds.submit(cases)
        # A quarter of what `asyncio.timeout` around a shield costs.
        timer = asyncio.get_running_loop().call_at(give_up_s, _give_up, cases, settled, answer_s)
        try:
            await settled
        finally:
            timer.cancel()
        # What each case has counts, never what the round returned: who gave up has no round.
        late = [case for case in cases if case.answer is None and case.is_given_up]
        if late:
            await self._decide_late(late, answer_s)
        return await _answers_of(cases, answer_s)

    async def _decide_late(self, late: Sequence[_Case], answer_s: float) -> None:
        """Decide what its round left open; recording goes on where it takes longer than there is.

        A decision that the round finds meanwhile is the better answer.
        """
        again = [_Case(case.arrival, case.started_us, case.features) for case in late]
        self._stand_in(again, StandInCause.STAND_IN_CAUSE_DEADLINE)
        keeping = asyncio.create_task(self._keep(again))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        await _wait({keeping}, answer_s)
        if keeping.done():
            keeping.result()
        for case, decided in zip(late, again, strict=True):
            if not isinstance(case.answer, Decision):
                case.answer, case.placed = decided.answer, decided.placed

    async def _decide_round(self, cases: Sequence[_Case]) -> list[None]:
        without_store = await self._admit(cases)
        await self._decide([case for case in cases if case.features and case.answer is None])
        if without_store:
            self._stand_in(without_store, StandInCause.STAND_IN_CAUSE_STORE_UNAVAILABLE)
        await self._keep([case for case in cases if case.is_recorded])
        return [None] * len(cases)

    def _place(self, cases: Sequence[_Case], written: Sequence[Written]) -> None:
        """Take over what was decided: from here on it is recorded, whoever waits for it."""
        for case, row in zip(cases, written, strict=True):
            if not case.is_given_up:
                case.placed, case.is_recorded = Placed(case.arrival.partition, row), True

    def _stand_in(self, cases: Sequence[_Case], cause: StandInCause) -> None:
        subjects = [case.subject() for case in cases]
        self._place(cases, self._maker.stand_in(subjects, cause, _LAYOUT))

    async def _keep(self, decided: Sequence[_Case]) -> None:
        """Record and publish what was decided."""
        placed = [case.placed for case in decided if case.placed is not None]
        for case, answer in zip(decided, await self._records.record(placed), strict=True):
            case.answer = answer
        self._observe(decided)

    async def _admit(self, cases: Sequence[_Case]) -> list[_Case]:
        """Answer repeats and conflicts; return those that have no store, for a stand-in."""
        without_store = []
        admitted = await self._features.admit([case.arrival for case in cases])
        for case, admission in zip(cases, admitted, strict=True):
            if isinstance(admission, OnlineStoreUnavailable | ShardClosed):
                without_store.append(case)
            elif isinstance(admission, FraudStreamError):
                case.answer = admission
            elif admission.answer.outcome is AdmitOutcome.ADMITTED:
                case.features = admission.features
            else:
                case.answer = _known_answer(admission)
        return without_store

    async def _decide(self, cases: Sequence[_Case]) -> None:
        """Decide admitted cases by models and rules."""
        found = [case.features for case in cases if case.features is not None]
        if not found:
            return
        arrays = FeatureArrays(
            np.concatenate([each.vector for each in found]).reshape(len(found), -1),
            np.concatenate([each.sequence for each in found]).reshape(
                len(found), SEQUENCE_LENGTH, -1
            ),
        )
        subjects = [case.subject() for case in cases]
        try:
            self._place(cases, await self._maker.decide(subjects, arrays, _LAYOUT))
        except Overloaded:
            self._stand_in(cases, StandInCause.STAND_IN_CAUSE_QUEUE_FULL)
        except FraudStreamError as exc:
            for case in cases:
                case.answer = exc

    def _observe(self, cases: Sequence[_Case]) -> None:
        if not cases:
            return
        decided: list[tuple[Subject, Decision]] = []
        for case in cases:
            made = case.answer.decision if isinstance(case.answer, Provisional) else case.answer
            if isinstance(made, Decision) and not made.replayed and case.placed is not None:
                decided.append((case.placed.written.subject, made))
        started_us = min(case.started_us for case in cases)
        self._observer.observe(decided, len(cases), started_us, self._maker.clock_us())


def _give_up(
    cases: Sequence[_Case], settled: asyncio.Future[Sequence[None]], answer_s: float
) -> None:
    """Take from a round what it has not settled at the end of the budget; stand-ins decide it.

    What is being recorded already is waited for until it has to be answered.
    """
    for case in cases:
        # The round leaves it out, so it is recorded once.
        case.is_given_up = not case.is_settled
    if all(case.is_given_up or case.answer for case in cases):
        _leave(settled)  # nobody waits for the round
    else:
        asyncio.get_running_loop().call_at(answer_s, _leave, settled)


def _leave(settled: asyncio.Future[Sequence[None]]) -> None:
    """Wait for a round no longer."""
    if not settled.done():
        settled.set_result(())


async def _answers_of(cases: Sequence[_Case], answer_s: float) -> list[Answer]:
    """Return what callers are told, when the broker has what no store recorded, or time is over."""
    sending = {case.answer.sending for case in cases if isinstance(case.answer, Provisional)}
    if sending:
        await _wait(sending, answer_s)
    return [_answer_of(case) for case in cases]


def _answer_of(case: _Case) -> Answer:
    answer = case.answer
    if isinstance(answer, Provisional):
        failed = answer.sending.exception() if answer.sending.done() else None
        return failed if isinstance(failed, FraudStreamError) else provisional(answer.decision)
    if answer is None and case.placed is not None:
        return provisional(case.placed.written.decision)
    return answer or Overloaded("the row was not decided")


async def _wait(futures: set[asyncio.Task[None]], until_s: float) -> None:
    """Wait until all are done, at most so long; what is not goes on."""
    left_s = until_s - asyncio.get_running_loop().time()
    await asyncio.wait(futures, timeout=max(left_s, 0.0))


def _known_answer(admission: Admission) -> Answer:
    """Return the answer to a row that was not admitted."""
    outcome = admission.answer.outcome
    if outcome is AdmitOutcome.EXISTS:
        return repeated(admission.answer.value)
    if outcome is AdmitOutcome.CONFLICT:
        return conflict()
    return Overloaded("the card has too many transactions that the stream has not seen yet")
