"""Conditions: what they may say, what a fault in one is called, and what they cost at most."""

from __future__ import annotations

import numpy as np
import pytest

from fraudstream.errors import FeatureSpecMismatch, RuleSetRefused
from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_NAMES
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.reading import ModelInputs
from fraudstream.telemetry.metrics import RULE_FAULTS
from tests.material.rule_files import LISTS, codes, purchase, rule, rules_of


def inputs(score: float = 0.1, **features: float) -> ModelInputs:
    """Return what a model saw and said; features that are not told are 0."""
    values = [features.get(name, 0.0) for name in FEATURE_NAMES]
    return ModelInputs(score, np.array(values, np.float32), FEATURE_HASHES)


def holds(when: str, seen: ModelInputs | None = None, **fields: object) -> bool:
    """Return whether a condition holds."""
    program = RuleProgram(rules_of(LISTS, rule("ONE", when)))
    return "ONE" in codes(program, purchase(**fields), seen or inputs())


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("transaction.amount_reference_minor >= 2500", True),
        ("transaction.amount_reference_minor > 2500", False),
        ("transaction.channel == 'pos' && transaction.kind == 'purchase'", True),
        ("transaction.channel in ['ecommerce', 'moto']", False),
        ("!(transaction.channel in ['ecommerce', 'moto'])", True),
        ("transaction.mcc in ['5411', '5812'] || score > 0.9", True),
        ("transaction.mcc != '5411'", False),
        ("transaction.mcc.startsWith('54') && size(transaction.mcc) == 4", True),
        ("transaction.mcc < '6'", True),
        ("transaction.device_id == ''", True),
        ('transaction.country == "DE"', True),
        ("score > 0.05", True),
        ("features.amount == 0", True),
        ("features.amount * 2.0 + 1.0 == 1.0", True),
        ("double(transaction.amount_minor) / 100.0 == 25.0", True),
        ("lists.blocked_merchants", False),
        ("!lists.blocked_merchants", True),
        ("int(transaction.mcc) % 2 == 1", True),
        ("score > 0.5 && (score > 0.6 || lists.watched_ips) || true", True),
    ],
)
def test_condition_holds(when: str, expected: bool) -> None:
    """CEL as its specification has it."""
    assert holds(when) is expected


def test_whole_and_broken_features_compare_alike() -> None:
    """How a number is handed to the evaluator changes nothing."""
    for amount in (2.0, 2.5):
        seen = inputs(amount=amount)

        assert holds("features.amount > 1 && features.amount < 3.0", seen)
        assert holds("features.amount * 2.0 >= 4.0", seen)
        assert holds("features.amount in [2, 2.5]", seen)


def test_missing_feature_makes_its_comparison_false() -> None:
    """Whatever is compared; what stands beside it still counts."""
    seen = inputs(amount=np.nan)

    assert not holds("features.amount > 1", seen)
    assert not holds("features.amount <= 1", seen)
    assert not holds("features.amount + 1.0 > 0.0", seen)
    assert holds("features.amount > 1 || transaction.mcc == '5411'", seen)
    assert holds("!(features.amount > 1)", seen)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("score > 0.5 && transaction.amount_minor > 'a'", "at character 43: text 'a' is compared"),
        ("transaction.mcc == 5411", "at character 20: number 5411 is compared"),
        ("lists.watched_ips == 1", "at character 22: number 1 is compared"),
        ("transaction.chanel == 'pos'", "unknown name transaction.chanel; did you mean channel?"),
        ("transaction.channel == 'poss'", "channel is never 'poss'; did you mean pos?"),
        ("score > 1 || features.card_speed > 5", "at character 23: unknown name"),
        ("features.card_speed > 5", "did you mean card_speed_kmh?"),
        ("lists.nobody", "unknown name lists.nobody"),
        ("amount > 5", "unknown name 'amount'"),
        ("transaction > 5", "expected transaction.NAME"),
        ("transaction.mcc.length > 5", "nothing here has fields"),
        ("score >", "at character 1: 'score >' cannot be evaluated"),
        ("&& score > 1", "a condition on both sides"),
        ("score = 1", "equality is =="),
        ("score > 0.5 ? true : false", "at character 13"),
        ("score + 1", "cannot be evaluated"),
        ("score", "expected true or false"),
        ("score > 0.5 && score", "at character 16: expected true or false"),
        ("false && transaction.mcc > 5.0", "at character 28"),
        ("[1, 2].exists(x, x > 1)", "no function 'exists'"),
        ("transaction.mcc.matches('(a+)+')", "no function 'matches'"),
        ("(score > 0.5", "( is not closed"),
        ("score > 0.5)", ") closes nothing"),
        ("(score > 0.5 && score < 1.0) == true", "cannot be compared"),
        ("transaction.amount_minor / 0 > 1", "division by zero"),
        ("score > .5", "cannot be evaluated"),
        ("score > 5u", "does not belong here"),
        ("transaction.mcc == 'a\nb'", "a text is one line"),
        ("", "expected 1 to 400"),
        ("&&".join(["true"] * 250), "expected 1 to 400"),
        ("score > 0.5" + " " * 2_000, "at most 2000 characters"),
        ("(" * 17 + "true" + ")" * 17, "more than 16 brackets"),
    ],
)
def test_fault_names_rule_and_place(when: str, said: str) -> None:
    """An error names the rule, and the place within its condition."""
    with pytest.raises(RuleSetRefused) as refused:
        RuleProgram(rules_of(LISTS, rule("FIRST", "true"), rule("SECOND", when)))

    assert said in str(refused.value)
    assert "rule SECOND at character" in str(refused.value)


def test_set_is_bounded_as_a_whole() -> None:
    """Every condition is small enough, and all of them are too much."""
    long = " && ".join(["score > 0.5"] * 100)

    with pytest.raises(RuleSetRefused, match="at most 8000 words and marks"):
        RuleProgram(rules_of(*(rule(f"R{n}_X", long) for n in range(30))))


def test_fault_at_run_time_leaves_its_rule_out_alone() -> None:
    """A division by zero is not a decision: it is counted, and the other rules speak."""
    divided = rule("DIVIDED", "100 / transaction.utc_offset_minutes > 1")
    program = RuleProgram(rules_of(divided, rule("BESIDE", "transaction.mcc == '5411'")))
    before = RULE_FAULTS._value.get()

    assert codes(program, purchase(utc_offset_minutes=0), inputs()) == ["BESIDE"]
    assert RULE_FAULTS._value.get() == before + 1
    assert codes(program, purchase(utc_offset_minutes=50), inputs()) == ["DIVIDED", "BESIDE"]


def test_feature_that_was_not_sent_is_told() -> None:
    """Of another release's features: the same error as for a model."""
    program = RuleProgram(rules_of(rule("ONE", "features.amount > 1")))
    sent = ModelInputs(0.1, np.zeros(1, np.float32), FEATURE_HASHES[1:2])

    with pytest.raises(FeatureSpecMismatch, match="amount"):
        program.signals(purchase(), sent)


def test_features_are_found_by_hash_not_by_place() -> None:
    """A vector in another order gives the same values."""
    program = RuleProgram(rules_of(rule("ONE", "features.amount > 1")))
    vector = np.array([0.0, 2.0], np.float32)

    assert codes(program, purchase(), ModelInputs(0.1, vector, FEATURE_HASHES[1::-1])) == ["ONE"]
    assert not codes(program, purchase(), ModelInputs(0.1, vector, FEATURE_HASHES[:2]))
