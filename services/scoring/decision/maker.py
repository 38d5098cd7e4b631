"""Make decisions: the models' verdicts, what rules leave of them, and the message of each.

The one way behind both doors. Budget: 30 microseconds a row beyond the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from fraudstream.engines.protocol import FloatArray
from fraudstream.v1.decision_pb2 import Decision, LogCoordinates, StageTimings, StandInCause
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.decision.apply_rules import apply_rules
from services.scoring.decision.feature_arrays import FeatureArrays, Layout
from services.scoring.decision.message import Subject, write_decision
from services.scoring.decision.recorded import Written, written_row
from services.scoring.decision.rules_follower import RulesInForce
from services.scoring.decision.verdict import Judged, Verdict, stand_in
from services.scoring.shards.seal import Seal


class Judge(Protocol):
    """What turns the numbers of some rows into verdicts."""

    @property
    def has_model(self) -> bool:
        """Return whether a model decides; else stand-ins do."""
        ...

    async def judge(
        self,
        arrays: FeatureArrays,
        cards: Sequence[str],
        feature_hashes: tuple[int, ...],
        sequence_hash: str,
    ) -> Judged:
        """Return one verdict a row; each names the model that made it.

        Args:
            arrays: Of the rows.
            cards: Token of each row's card.
            feature_hashes: What the vectors hold.
            sequence_hash: Layout of the sequences.

        Raises:
            FeatureSpecMismatch: The model needs what is not there.
            Overloaded: Too many rows wait for the engine.
        """
        ...


class DecisionMaker:
    """Makes decisions that are ready to be recorded. Use from one event loop.

    Args:
        judge: The models that serve.
        rules: Give their verdicts actions.
        seal: Seals decisions for the store.
        clock_us: Epoch microseconds.
        cpu_class: What kind of processor computes the scores.
    """

    def __init__(
        self,
        judge: Judge,
        rules: RulesInForce,
        seal: Seal,
        clock_us: Callable[[], int],
        cpu_class: str,
    ) -> None:
        self.judge = judge
        self.seal = seal
        self.clock_us = clock_us
        self._rules = rules
        self._cpu_class = cpu_class

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
        judged = await self.judge.judge(arrays, cards, layout.feature_hashes, layout.sequence_hash)
        return self._write(subjects, judged, arrays.vectors, layout, log)

    def stand_in(
        self, subjects: Sequence[Subject], cause: StandInCause, layout: Layout
    ) -> list[Written]:
        """Return the decision of rules alone about each row that came by gRPC."""
        rows = len(subjects)
        return self._write(subjects, Judged([stand_in(cause)] * rows), [None] * rows, layout, None)

    def rule(
        self,
        rows: Iterable[tuple[Transaction, Verdict, FloatArray | None]],
        feature_hashes: tuple[int, ...],
    ) -> tuple[list[Verdict], str]:
        """Return verdicts with their actions, all by one rule set, and the hash of that.

        Args:
            rows: Transaction, verdict and vector, float32 [F], None only for a stand-in.
            feature_hashes: What the vectors hold.

        Raises:
            FeatureSpecMismatch: A rule needs a feature that was not sent.
        """
        program = self._rules.program  # once a call: no answer comes from two versions
        return [apply_rules(program, *row, feature_hashes) for row in rows], program.hash

    def _write(
        self,
        subjects: Sequence[Subject],
        judged: Judged,
        vectors: Iterable[FloatArray | None],
        layout: Layout,
        log: LogCoordinates | None,
    ) -> list[Written]:
        transactions = (subject.transaction for subject in subjects)
        verdicts, rule_set_hash = self.rule(
            zip(transactions, judged.verdicts, vectors, strict=True), layout.feature_hashes
        )
        template = Decision(
            feature_set_hash=layout.feature_set_hash,
            sequence_hash=layout.sequence_hash,
            rule_set_hash=rule_set_hash,
            cpu_class=self._cpu_class,
            coordinates=log,
            timings=StageTimings(scoring_ended_us=self.clock_us()),
        )
        return [
            written_row(
                subject, write_decision(template, subject, verdict, judged.engine), self.seal
            )
            for subject, verdict in zip(subjects, verdicts, strict=True)
        ]
