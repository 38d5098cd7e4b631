"""Make decisions: the models' verdicts, what rules leave of them, and the message of each.

The one way behind both doors. Budget: 30 microseconds a row beyond the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from fraudstream.engines.protocol import FloatArray
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.reading import ModelInputs
from fraudstream.rules.ruling import ruled_action, stand_in_action
from fraudstream.v1.decision_pb2 import Decision, LogCoordinates, StageTimings, StandInCause
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.decision.feature_arrays import FeatureArrays, Layout
from services.scoring.decision.message import Subject, write_decision
from services.scoring.decision.recorded import Written, written_row
from services.scoring.decision.rules_follower import RulesInForce
from services.scoring.decision.verdict import Judged, Verdict, stand_in
from services.scoring.reasons.texts import reasons_for
from services.scoring.shards.seal import Seal

# A person reads them; the strictest come first.
_MOST_REASONS: Final = 16


class Judge(Protocol):
    """What turns the numbers of some rows into verdicts."""

    @property
    def has_model(self) -> bool:
        """Return whether a model decides; else stand-ins do."""
        ...

    async def judge(self, arrays: FeatureArrays, cards: Sequence[str], layout: Layout) -> Judged:
        """Return one verdict a row; `cards` are the tokens of the rows' cards."""
        ...


@dataclass(frozen=True, slots=True)
class DecisionMaker:
    """Makes decisions that are ready to be recorded. Use from one event loop.

    Attributes:
        judge: The models that serve.
        rules: Give their verdicts actions.
        seal: Seals decisions for the store.
        clock_us: Epoch microseconds.
        cpu_class: What kind of processor computes the scores.
    """

    judge: Judge
    rules: RulesInForce
    seal: Seal
    clock_us: Callable[[], int]
    cpu_class: str

    async def decide(
        self,
        subjects: Sequence[Subject],
        arrays: FeatureArrays,
        layout: Layout,
        log: LogCoordinates | None = None,
    ) -> list[Written]:
        """Return the decision of models and rules about each row.

        Args:
            subjects: What is decided about.
            arrays: Their numbers.
            layout: What those are.
            log: Where they were read, without the offset; None for what came by gRPC.

        Raises:
            FeatureSpecMismatch: The model or a rule needs what is not there.
            Overloaded: Too many rows wait for the engine.
        """
        cards = [subject.transaction.card_token for subject in subjects]
        judged = await self.judge.judge(arrays, cards, layout)
        return self._write(subjects, judged, arrays.vectors, layout, log)

    def stand_in(
        self, subjects: Sequence[Subject], cause: StandInCause, layout: Layout
    ) -> list[Written]:
        """Return the decision of rules alone about each row that came by gRPC."""
        rows = len(subjects)
        return self._write(subjects, Judged([stand_in(cause)] * rows), [None] * rows, layout, None)

    def rule(
        self,
        rows: Sequence[Subject | Decision],
        verdicts: Sequence[Verdict],
        vectors: Iterable[FloatArray | None],
        layout: Layout,
    ) -> tuple[list[Verdict], str]:
        """Return verdicts with their actions, all by one rule set, and the hash of that.

        A vector, float32 [F], is None only for a stand-in.

        Raises:
            FeatureSpecMismatch: A rule needs a feature that was not sent.
        """
        program = self.rules.program  # once a call: no answer comes from two versions
        ruled = [
            apply_rules(program, row.transaction, verdict, vector, layout.feature_hashes)
            for row, verdict, vector in zip(rows, verdicts, vectors, strict=True)
        ]
        return ruled, program.hash

    def _write(
        self,
        subjects: Sequence[Subject],
        judged: Judged,
        vectors: Iterable[FloatArray | None],
        layout: Layout,
        log: LogCoordinates | None,
    ) -> list[Written]:
        verdicts, rule_set_hash = self.rule(subjects, judged.verdicts, vectors, layout)
        template = Decision(
            feature_set_hash=layout.feature_set_hash,
            sequence_hash=layout.sequence_hash,
            rule_set_hash=rule_set_hash,
            cpu_class=self.cpu_class,
            coordinates=log,
            timings=StageTimings(scoring_ended_us=self.clock_us()),
        )
        return [
            written_row(
                subject, write_decision(template, subject, verdict, judged.engine), self.seal
            )
            for subject, verdict in zip(subjects, verdicts, strict=True)
        ]


def apply_rules(
    program: RuleProgram,
    transaction: Transaction,
    verdict: Verdict,
    vector: FloatArray | None,
    feature_hashes: tuple[int, ...],
) -> Verdict:
    """Return a verdict with the action that rules leave it, their reasons before the model's.

    Args:
        program: The rules of this call.
        transaction: Canonical.
        verdict: Of the judge; of a stand-in only the cause counts, not the features.
        vector: float32 [F]; None only for a stand-in.
        feature_hashes: What the vector holds.

    Raises:
        FeatureSpecMismatch: A rule needs a feature that was not sent.
    """
    if verdict.is_stand_in or vector is None:
        signals = program.signals(transaction, None)
        action = stand_in_action(transaction, program.rule_set.stand_in, signals)
    else:
        inputs = ModelInputs(verdict.score, vector, feature_hashes)
        signals = program.signals(transaction, inputs)
        action = ruled_action(verdict.action, signals)
    if not signals and action == verdict.action:
        return verdict
    of_rules = tuple(signal.reason for signal in signals[:_MOST_REASONS])
    reasons = of_rules + reasons_for(action, verdict.why.reasons)
    return replace(verdict, action=action, why=replace(verdict.why, reasons=reasons))
