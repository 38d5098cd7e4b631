"""What wins: lists, rules, the model, and the policy where no model answers."""

from __future__ import annotations

import pytest

from fraudstream.rules.program import RuleProgram
from fraudstream.rules.ruling import ruled_action, stand_in_action
from fraudstream.v1.decision_pb2 import Action
from fraudstream.v1.transaction_pb2 import Channel
from tests.material.rule_files import AT_MS, LISTS, codes, purchase, rule, rules_of

A, C, R, D = (
    Action.ACTION_APPROVE,
    Action.ACTION_CHALLENGE,
    Action.ACTION_REVIEW,
    Action.ACTION_DECLINE,
)
RULES = "".join(
    rule(f"{action.upper()}_IT", f"transaction.mcc == '{mcc}'", action)
    for mcc, action in (
        ("0001", "approve"),
        ("0002", "challenge"),
        ("0003", "review"),
        ("0004", "decline"),
    )
)
CAPS = """otherwise = "review"
[[stand_in.caps]]
channels = ["pos"]
mccs = ["5411"]
up_to_minor = 3000
action = "approve"
above = "challenge"
[[stand_in.caps]]
channels = ["pos", "atm"]
up_to_minor = 1000
action = "challenge"
above = "decline"
"""
PROGRAM = RuleProgram(rules_of(LISTS, RULES, stand_in=CAPS))


def ruled(model: Action, **fields: object) -> Action:
    """Return what becomes of a model's action."""
    return ruled_action(model, PROGRAM.signals(purchase(**fields), None))


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        (R, {}, R),  # nothing speaks
        (A, {"mcc": "0002"}, C),
        (A, {"mcc": "0003"}, R),
        (A, {"mcc": "0004"}, D),
        (D, {"mcc": "0002"}, D),  # a weaker rule lowers nothing
        (D, {"mcc": "0001"}, A),  # an approve rule takes the model's action back
        (D, {"customer_id": "c-good"}, A),  # so does an allow list
        (A, {"merchant_id": "m-bad"}, D),  # a block list declines
        (A, {"merchant_id": "m-bad", "customer_id": "c-good"}, D),  # whoever is allowed
        (A, {"merchant_id": "m-bad", "mcc": "0001"}, D),
        (D, {"customer_id": "c-good", "mcc": "0002"}, C),  # nor does it lift a rule
        (A, {"ip": "2001:db8::1"}, R),  # a watch list asks for a person
        (A, {"ip": "2001:db8:0:0:0:0:0:1"}, R),  # in any spelling
        (A, {"ip": "2001:db8::2"}, A),
        (A, {"ip": "nonsense"}, A),
    ],
)
def test_strictest_wins_and_only_the_model_gives_way(
    model: Action, fields: dict[str, object], expected: Action
) -> None:
    """Block list > decline > review > challenge > the model's action, which `approve` lowers."""
    assert ruled(model, **fields) == expected


def test_reasons_begin_with_the_strictest() -> None:
    """A person reads first what decided."""
    found = codes(PROGRAM, purchase(mcc="0003", merchant_id="m-bad", customer_id="c-good"), None)

    assert found == ["BLOCKED_MERCHANTS", "REVIEW_IT", "GOOD_CUSTOMERS"]


def test_entry_ends_by_the_clock_of_the_event() -> None:
    """The same transaction is on the list for ever, however late it is decided again."""
    end_ms = AT_MS + 86_400_000

    assert codes(PROGRAM, purchase(merchant_id="m-old", event_time_ms=end_ms - 1), None)
    assert not codes(PROGRAM, purchase(merchant_id="m-old", event_time_ms=end_ms), None)


def test_condition_reads_a_list_as_true_or_false() -> None:
    """A rule can say more about whom a list names."""
    program = RuleProgram(
        rules_of(LISTS, rule("BOTH", "lists.good_customers && transaction.mcc == '5411'"))
    )

    assert codes(program, purchase(customer_id="c-good"), None) == ["BOTH", "GOOD_CUSTOMERS"]
    assert not codes(program, purchase(customer_id="c-1"), None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"amount_reference_minor": 3_000}, A),  # a cap is within its limit
        ({"amount_reference_minor": 3_001}, C),
        ({"mcc": "5812", "amount_reference_minor": 1_000}, C),  # the first cap that fits
        ({"mcc": "5812", "amount_reference_minor": 1_001}, D),
        ({"channel": Channel.CHANNEL_ECOMMERCE}, R),  # no cap fits
        ({"merchant_id": "m-bad", "amount_reference_minor": 1}, D),  # lists still speak
        ({"mcc": "0003", "amount_reference_minor": 1}, R),  # and rules
        ({"channel": Channel.CHANNEL_MOTO, "customer_id": "c-good"}, R),  # none lifts a cap
        ({"channel": Channel.CHANNEL_MOTO, "mcc": "0001"}, R),
    ],
)
def test_stand_in_is_a_function_of_transaction_and_rule_set(
    fields: dict[str, object], expected: Action
) -> None:
    """Caps by amount, channel and merchant code; rules and lists may only be stricter."""
    transaction = purchase(**fields)
    signals = PROGRAM.signals(transaction, None)

    assert stand_in_action(transaction, PROGRAM.rule_set.stand_in, signals) == expected


def test_rules_that_need_the_model_say_nothing_of_a_stand_in() -> None:
    """There is no score, and features may not have been read."""
    program = RuleProgram(
        rules_of(
            rule("BY_SCORE", "score >= 0.0"),
            rule("BY_FEATURE", "features.amount >= 0"),
            rule("BY_FIELD", "transaction.mcc == '5411'"),
        )
    )

    assert codes(program, purchase(), None) == ["BY_FIELD"]
    assert program.codes_that_need_model == ["BY_SCORE", "BY_FEATURE"]
