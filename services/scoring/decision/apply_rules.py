"""The stage after the judge: rules, lists and the stand-in policy give an action. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fraudstream.engines.protocol import FloatArray
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.reading import ModelInputs
from fraudstream.rules.ruling import ruled_action, stand_in_action
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.decision.verdict import Verdict
from services.scoring.reasons.texts import reasons_for

# A person reads them; the strictest come first.
_MOST_REASONS: Final = 16


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
