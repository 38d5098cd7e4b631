"""Why a row was decided as it was."""

from __future__ import annotations

from dataclasses import dataclass

from fraudstream.v1.decision_pb2 import Decision, PastContribution, Reason


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a row was decided as it was.

    Attributes:
        reasons: At least one.
        past: What the card's past transactions did; empty where it was not measured.
        is_estimated: Whether the engine was not asked.
    """

    reasons: tuple[Reason, ...]
    past: tuple[PastContribution, ...] = ()
    is_estimated: bool = False

    def write_into(self, decision: Decision) -> None:
        """Put it in a decision, in the place of the model's reasons; those of rules stay first."""
        if decision.reasons:
            of_rules = [reason for reason in decision.reasons if reason.from_rule]
            del decision.reasons[:], decision.past[:]
            decision.reasons.extend(of_rules)
        decision.reasons.extend(self.reasons)
        decision.past.extend(self.past)
        decision.reasons_estimated = self.is_estimated
