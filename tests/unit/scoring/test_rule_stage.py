"""The stage after the judge: from a verdict to a ruled one, with its reasons."""

from __future__ import annotations

import numpy as np
import pytest

from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_NAMES
from fraudstream.rules.program import RuleProgram
from fraudstream.v1.decision_pb2 import Action, Decision, Reason, StandInCause
from services.scoring.decision.maker import apply_rules
from services.scoring.decision.verdict import Verdict, stand_in
from services.scoring.reasons.explanation import Explanation
from services.scoring.reasons.texts import FITS_HABITS, NO_HISTORY
from tests.material.rule_files import LISTS, purchase, rule, rules_of

VECTOR = np.zeros(len(FEATURE_NAMES), np.float32)
PROGRAM = RuleProgram(
    rules_of(
        LISTS,
        rule("SMALL", "transaction.amount_reference_minor < 100", "challenge"),
        rule("UNSURE", "score > 0.3 && features.amount == 0", "review"),
    )
)
UNUSUAL = Reason(code="R01", text="Unusual amount", contribution=1.0)


def verdict_of(score: float, action: Action, reason: Reason = FITS_HABITS) -> Verdict:
    """Return what a judge says."""
    return Verdict(action, score, score, Explanation((reason,)), 8, "engine")


def ruled(verdict: Verdict, **fields: object) -> Verdict:
    """Return it after the rules."""
    return apply_rules(PROGRAM, purchase(**fields), verdict, VECTOR, FEATURE_HASHES)


def codes_of(verdict: Verdict) -> list[str]:
    """Return its reasons' codes."""
    return [reason.code for reason in verdict.why.reasons]


def test_verdict_that_no_rule_speaks_about_is_the_same_one() -> None:
    """Most are: nothing is built for them."""
    verdict = verdict_of(0.1, Action.ACTION_APPROVE)

    assert ruled(verdict) is verdict


def test_reasons_of_rules_stand_before_the_models() -> None:
    """What decided first, then what the model thought; its numbers stay."""
    found = ruled(verdict_of(0.4, Action.ACTION_REVIEW, UNUSUAL), merchant_id="m-bad")

    assert found.action == Action.ACTION_DECLINE
    assert codes_of(found) == ["BLOCKED_MERCHANTS", "UNSURE", "R01"]
    assert (found.score, found.bucket, found.engine_version) == (0.4, 8, "engine")


@pytest.mark.parametrize("reason", [FITS_HABITS, NO_HISTORY], ids=lambda reason: reason.code)
def test_what_speaks_for_a_payment_is_no_reason_to_stop_it(reason: Reason) -> None:
    """A payment that a rule stops is not told that it fits the card's habits."""
    found = ruled(verdict_of(0.1, Action.ACTION_APPROVE, reason), merchant_id="m-bad")

    assert found.action == Action.ACTION_DECLINE
    assert codes_of(found) == ["BLOCKED_MERCHANTS"]


def test_rule_that_changes_nothing_is_named_all_the_same() -> None:
    """An analyst sees that it fired."""
    found = ruled(verdict_of(0.95, Action.ACTION_DECLINE, UNUSUAL))

    assert found.action == Action.ACTION_DECLINE
    assert codes_of(found) == ["UNSURE", "R01"]


def test_stand_in_is_ruled_without_score_and_features() -> None:
    """Also where features were read before the time ran out: repeats must agree."""
    cause = stand_in(StandInCause.STAND_IN_CAUSE_DEADLINE)

    found = ruled(cause, amount_reference_minor=50)

    assert found.action == Action.ACTION_REVIEW
    assert codes_of(found) == ["SMALL", "STAND_IN_DEADLINE"]
    assert found.is_stand_in
    without = apply_rules(PROGRAM, purchase(amount_reference_minor=50), cause, None, FEATURE_HASHES)
    assert without == found


def test_measured_reasons_leave_those_of_rules() -> None:
    """An alert whose reasons were estimated gets measured ones, and still says which rule fired."""
    estimated = Explanation((Reason(code="GUESSED"),), is_estimated=True)
    decision = Decision(reasons=[Reason(code="BLOCKED", from_rule=True)])
    decision.reasons.extend(estimated.reasons)

    Explanation((Reason(code="MEASURED"),)).write_into(decision)

    assert [reason.code for reason in decision.reasons] == ["BLOCKED", "MEASURED"]
    assert not decision.reasons_estimated


def test_reasons_are_bounded() -> None:
    """A person reads them: the strictest sixteen of the rules, then the model's."""
    rules = [rule(f"RULE_{number}", "true", "challenge") for number in range(40)]
    program = RuleProgram(rules_of(*rules, rule("LAST", "true", "decline")))

    found = apply_rules(
        program, purchase(), verdict_of(0.9, Action.ACTION_REVIEW, UNUSUAL), VECTOR, FEATURE_HASHES
    )

    assert codes_of(found)[:2] == ["LAST", "RULE_0"]
    assert len(found.why.reasons) == 17
