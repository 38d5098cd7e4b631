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
from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_SET_HASH, SEQUENCE_HASH
from fraudstream.store.shard import AdmitOutcome
from fraudstream.telemetry.metrics import BATCH_ROWS, STAGE_SECONDS
from fraudstream.v1.decision_pb2 import Decision, Freshness, StageTimings, StandInCause
from services.scoring.after.shared_parts import DoorParts
from services.scoring.authorise.event_time import TimeLeft
from services.scoring.authorise.features import Admission, DoorFeatures, RowFeatures
from services.scoring.authorise.intake import Arrival
from services.scoring.authorise.recording import (
    Answer,
    DoorRecords,
    Placed,
    Provisional,
    conflict,
    provisional,
    repeated,
)
from services.scoring.authorise.rounds import Coalescer
from services.scoring.decision.apply_rules import apply_rules
from services.scoring.decision.message import EngineTimes, Subject, write_decision
from services.scoring.decision.recorded import Written, written_row
from services.scoring.decision.verdict import Verdict, stand_in
from services.scoring.inference.feature_arrays import FeatureArrays
from services.scoring.shards.seal import Seal

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
    placed: Placed | None = None
    answer: Answer | Provisional | None = None
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
        self._rounds: Coalescer[_Case, None] = Coalescer(self._decide_round, _ROUND)
        self._keeping: set[asyncio.Task[None]] = set()
        self._batch_rows = BATCH_ROWS.labels("door")
        self._seconds = STAGE_SECONDS.labels("door")

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
            answers += await self._decide_lot(arrivals[begin : begin + _ROUND], give_up_s, answer_s)
        return answers

    async def _decide_lot(
        self, arrivals: Sequence[Arrival], give_up_s: float, answer_s: float
    ) -> list[Answer]:
        cases = [_Case(arrival, self._parts.clock_us()) for arrival in arrivals]
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
            await self._stand_in(late, answer_s)
        return await _answers_of(cases, answer_s)

    async def _stand_in(self, late: Sequence[_Case], answer_s: float) -> None:
        """Decide what its round left open; recording goes on where it takes longer than there is.

        A decision that the round finds meanwhile is the better answer.
        """
        verdict = stand_in(StandInCause.STAND_IN_CAUSE_DEADLINE)
        again = [_Case(case.arrival, case.started_us, case.features, verdict) for case in late]
        self._prepare(again)
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
        await self._admit(cases)
        await self._judge([case for case in cases if case.is_open])
        decided = [case for case in cases if case.verdict is not None and not case.is_given_up]
        self._prepare(decided)
        await self._keep(decided)
        return [None] * len(cases)

    def _prepare(self, decided: Sequence[_Case]) -> None:
        """Write down what was decided: from here on it is recorded, whoever waits for it."""
        placed = self._write(decided, self._apply_rules(decided))
        for case, row in zip(decided, placed, strict=True):
            case.placed, case.is_recorded = row, True

    async def _keep(self, decided: Sequence[_Case]) -> None:
        """Record and publish what was decided."""
        placed = [case.placed for case in decided if case.placed is not None]
        for case, answer in zip(decided, await self._records.record(placed), strict=True):
            case.answer = answer
        self._observe(placed, decided)

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
            Placed(case.arrival.partition, _written(template, case, case.verdict, self._parts.seal))
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
            made = case.answer.decision if isinstance(case.answer, Provisional) else case.answer
            if isinstance(made, Decision) and not made.replayed:
                spans.append((row.written.subject, made))
        self._parts.observer.count([decision for _, decision in spans])
        self._parts.observer.write_spans(spans, started_us, ended_us)
        self._parts.shadows.add(spans)
        self._batch_rows.observe(len(cases))
        self._seconds.observe((ended_us - started_us) / 1e6)


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


def _written(template: Decision, case: _Case, verdict: Verdict, seal: Seal) -> Written:
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
        parent=None,
        offset=None,
        asked_by=arrival.asked_by,
    )
    decision = write_decision(template, subject, verdict, case.engine)
    decision.timings.scoring_started_us = case.started_us
    return written_row(subject, decision, seal)
