"""The authorisation path: decide transactions that downstream systems send, while they wait.

Order: a card's transactions are seen in the order of its pending list. Guarantee: an answered
decision is recorded (or, with the store gone, acknowledged by the broker); the same transaction
again gets the same decision. Bad rows fail alone. Budget: 100 microseconds a row beyond gRPC, the
engine and the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fraudstream.errors import FraudStreamError, OnlineStoreUnavailable, Overloaded, ShardClosed
from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_SET_HASH, SEQUENCE_HASH
from fraudstream.shard import AdmitOutcome
from fraudstream.telemetry import BATCH_ROWS, STAGE_SECONDS
from fraudstream.v1.decision_pb2 import Decision, Freshness, StageTimings, StandInCause
from services.scoring.coalescer import Coalescer
from services.scoring.decide import Verdict, stand_in
from services.scoring.door_features import Admission, DoorFeatures, RowFeatures
from services.scoring.door_records import Answer, DoorRecords, Placed, conflict, repeated
from services.scoring.door_row import Arrival
from services.scoring.feature_batch import FeatureArrays
from services.scoring.parts import DoorParts
from services.scoring.record import Written, written_row
from services.scoring.rule_stage import apply_rules
from services.scoring.written import EngineTimes, Subject, write_decision

# The engine's largest batch: some 20 ms of all that there is to do.
_ROUND: Final = 64
_NO_FRESHNESS: Final = Freshness()
_NO_TIMINGS: Final = StageTimings()
_NO_ENGINE: Final = EngineTimes()


@dataclass(slots=True)
class _Case:
    """One arrival on its way: it ends with a verdict, or with an answer that needs none."""

    arrival: Arrival
    started_us: int
    features: RowFeatures | None = None
    verdict: Verdict | None = None
    engine: EngineTimes = _NO_ENGINE
    answer: Answer | None = None
    is_recorded: bool = False
    is_given_up: bool = False

    @property
    def is_settled(self) -> bool:
        """Return whether there is an answer, or its decision is being recorded."""
        return self.is_recorded or self.answer is not None

    @property
    def is_open(self) -> bool:
        """Return whether nothing is decided yet."""
        return self.verdict is None and self.answer is None


class FrontDoor:
    """Decides arrivals."""

    def __init__(self, parts: DoorParts, features: DoorFeatures, records: DoorRecords) -> None:
        self._parts = parts
        self._features = features
        self._records = records
        self._rounds: Coalescer[_Case, Answer] = Coalescer(self._decide_round, _ROUND)
        self._batch_rows = BATCH_ROWS.labels("door")
        self._seconds = STAGE_SECONDS.labels("door")

    async def decide(self, arrivals: Sequence[Arrival], budget_s: float) -> Sequence[Answer]:
        """Return the decision of each arrival, or its error.

        What is more than a round goes lot by lot: other callers have their rounds in between.

        Args:
            arrivals: Checked transactions.
            budget_s: Time for state, features and model; after it a stand-in decides.
        """
        clock_s = asyncio.get_running_loop().time
        ends_s = clock_s() + budget_s
        answers: list[Answer] = []
        for begin in range(0, len(arrivals), _ROUND):
            lot = arrivals[begin : begin + _ROUND]
            answers += await self._decide_lot(lot, max(ends_s - clock_s(), 0.0))
        return answers

    async def _decide_lot(self, arrivals: Sequence[Arrival], budget_s: float) -> Sequence[Answer]:
        cases = [_Case(arrival, self._parts.clock_us()) for arrival in arrivals]
        answers = self._rounds.submit(cases)
        # A quarter of what `asyncio.timeout` around a shield costs.
        timer = asyncio.get_running_loop().call_later(budget_s, _give_up, cases, answers)
        try:
            found = await answers
        finally:
            timer.cancel()
        late = [case for case in cases if case.is_given_up]
        if not late:
            return found
        verdict = stand_in(StandInCause.STAND_IN_CAUSE_DEADLINE)
        again = [_Case(case.arrival, case.started_us, case.features, verdict) for case in late]
        for case, answer in zip(late, await self._finish(again), strict=True):
            case.answer = answer
        return [_answer_of(case) for case in cases]

    async def _decide_round(self, cases: Sequence[_Case]) -> list[Answer]:
        await self._admit(cases)
        await self._judge([case for case in cases if case.is_open])
        return await self._finish(cases)

    async def _finish(self, cases: Sequence[_Case]) -> list[Answer]:
        """Record and publish what was decided; return the answer to each case."""
        decided = [case for case in cases if case.verdict is not None and not case.is_given_up]
        for case in decided:
            case.is_recorded = True
        placed = self._write(decided, self._apply_rules(decided))
        for case, answer in zip(decided, await self._records.record(placed), strict=True):
            case.answer = answer
        self._observe(placed, decided)
        return [_answer_of(case) for case in cases]

    async def _admit(self, cases: Sequence[_Case]) -> None:
        """Answer what needs no model: repeats and conflicts; the store gone is a stand-in."""
        admitted = await self._features.admit([case.arrival for case in cases])
        for case, admission in zip(cases, admitted, strict=True):
            if isinstance(admission, OnlineStoreUnavailable | ShardClosed):
                case.verdict = stand_in(StandInCause.STAND_IN_CAUSE_STORE_UNAVAILABLE)
            elif isinstance(admission, FraudStreamError):
                case.answer = admission
            elif admission.answer.outcome is AdmitOutcome.ADMITTED:
                case.features = admission.features
            else:
                case.answer = _known_answer(admission)

    async def _judge(self, cases: Sequence[_Case]) -> None:
        """Judge admitted cases with the model."""
        found = [case.features for case in cases if case.features is not None]
        if not found:
            return
        arrays = FeatureArrays(
            np.stack([features.vector for features in found]),
            np.stack([features.sequence for features in found]),
        )
        try:
            cards = [case.arrival.transaction.card_token for case in cases]
            judged = await self._parts.judge.judge(arrays, cards, FEATURE_HASHES, SEQUENCE_HASH)
        except Overloaded:
            verdict = stand_in(StandInCause.STAND_IN_CAUSE_QUEUE_FULL)
            for case in cases:
                case.verdict = verdict
            return
        except FraudStreamError as exc:
            for case in cases:
                case.answer = exc
            return
        for case, verdict in zip(cases, judged.verdicts, strict=True):
            case.verdict, case.engine = verdict, judged.engine

    def _apply_rules(self, cases: Sequence[_Case]) -> str:
        """Give each verdict its action, all by one rule set; return its hash."""
        program = self._parts.rules.program
        for case in cases:
            if case.verdict is not None:
                vector = case.features.vector if case.features else None
                case.verdict = apply_rules(
                    program, case.arrival.transaction, case.verdict, vector, FEATURE_HASHES
                )
        return program.hash

    def _write(self, cases: Sequence[_Case], rule_set_hash: str) -> list[Placed]:
        template = self._parts.template(FEATURE_SET_HASH, SEQUENCE_HASH, started_us=0)
        template.rule_set_hash = rule_set_hash
        template.timings.scoring_ended_us = self._parts.clock_us()
        return [
            Placed(case.arrival.partition, _written(template, case, case.verdict))
            for case in cases
            if case.verdict is not None
        ]

    def _observe(self, placed: Sequence[Placed], cases: Sequence[_Case]) -> None:
        if not cases:
            return
        started_us = min(case.started_us for case in cases)
        ended_us = self._parts.clock_us()
        spans: list[tuple[Subject, Decision]] = []
        for row, case in zip(placed, cases, strict=True):
            if isinstance(case.answer, Decision) and not case.answer.replayed:
                spans.append((row.written.subject, case.answer))
        self._parts.observer.count([decision for _, decision in spans])
        self._parts.observer.write_spans(spans, started_us, ended_us)
        self._parts.shadows.add(spans)
        self._batch_rows.observe(len(cases))
        self._seconds.observe((ended_us - started_us) / 1e6)


def _give_up(cases: Sequence[_Case], answers: asyncio.Future[Sequence[Answer]]) -> None:
    """Take from a round what it has not settled at the end of the budget; stand-ins decide it.

    What is being recorded already is waited for.
    """
    for case in cases:
        # The round leaves it out, so it is recorded once.
        case.is_given_up = not case.is_settled
    if not answers.done() and all(case.is_given_up or case.answer for case in cases):
        answers.set_result(())  # nobody waits for the round


def _answer_of(case: _Case) -> Answer:
    return case.answer or Overloaded("the row was not decided")


def _known_answer(admission: Admission) -> Answer:
    """Return the answer to a row that was not admitted."""
    outcome = admission.answer.outcome
    if outcome is AdmitOutcome.EXISTS:
        return repeated(admission.answer.value)
    if outcome is AdmitOutcome.CONFLICT:
        return conflict()
    return Overloaded("the card has too many transactions that the stream has not seen yet")


def _written(template: Decision, case: _Case, verdict: Verdict) -> Written:
    arrival, features = case.arrival, case.features
    subject = Subject(
        identity=arrival.identity,
        digest=arrival.row.digest,
        transaction=arrival.transaction,
        vector=features.vector.tobytes() if features else b"",
        sequence=features.sequence.tobytes() if features else b"",
        freshness=features.freshness if features else _NO_FRESHNESS,
        timings=_NO_TIMINGS,
        span=arrival.span,
        parent=arrival.parent,
        offset=None,
    )
    decision = write_decision(template, subject, verdict, case.engine)
    decision.timings.scoring_started_us = case.started_us
    return written_row(subject, decision)
