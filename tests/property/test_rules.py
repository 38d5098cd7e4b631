"""Rule sets: the hash says what they say, and the whole program says what each rule alone says."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.features.catalogue import FEATURE_HASHES, FEATURE_NAMES
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.reading import ModelInputs
from fraudstream.rules.rule_set import RuleSet
from fraudstream.rules.ruling import ruled_action
from fraudstream.transaction.actions import ACTION_WORDS
from fraudstream.v1.decision_pb2 import Action
from fraudstream.v1.transaction_pb2 import Channel, Transaction
from tests.material.rule_files import AT_MS, purchase

_MCCS: Final = ("5411", "5812", "6051")
_LEAVES: Final = (
    "transaction.amount_reference_minor > 5000",
    "transaction.channel == 'pos'",
    "transaction.channel in ['atm', 'ecommerce']",
    "transaction.mcc in ['5411', '6051']",
    "transaction.mcc != '5812'",
    "transaction.mcc.startsWith('54')",
    "transaction.merchant_id == 'm-1'",
    "100 / transaction.utc_offset_minutes > 1",
    "features.amount > 2.5",
    "features.amount * 2.0 <= 4.0",
    "features.card_count_1h == 1",
    "features.is_night != features.is_weekend",
    "score >= 0.5",
    "lists.blocked",
    "!lists.blocked",
)


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} && {})".format, parts, parts),
        st.builds("({} || {})".format, parts, parts),
        st.builds("!({})".format, parts),
    )


CONDITIONS: Final = st.recursive(st.sampled_from(_LEAVES), _joined, max_leaves=5)
FEATURES: Final = st.sampled_from([0.0, 1.0, 2.0, 2.5, 3.0, float("nan")])


@st.composite
def rule_sets(draw: st.DrawFn) -> dict[str, Any]:
    """Return what a file says."""
    conditions = draw(st.lists(CONDITIONS, min_size=1, max_size=6))
    rules = [
        {
            "code": f"RULE_{number}",
            "when": when,
            "action": draw(st.sampled_from(list(ACTION_WORDS))),
            "text": f"Rule {number}",
        }
        for number, when in enumerate(conditions)
    ]
    blocked = {"kind": "block", "of": "merchant_id", "text": "Blocked", "entries": {}}
    return {
        "id": "cards",
        "version": draw(st.integers(1, 99)),
        "stand_in": {"otherwise": draw(st.sampled_from(list(ACTION_WORDS)))},
        "rules": rules,
        "lists": {"blocked": blocked},
    }


@st.composite
def rows(draw: st.DrawFn) -> tuple[Transaction, ModelInputs]:
    """Return a transaction, and what a model saw and said of it."""
    transaction = purchase(
        amount_reference_minor=draw(st.sampled_from([100, 5_000, 5_001])),
        channel=draw(st.sampled_from(Channel.values())),
        mcc=draw(st.sampled_from((*_MCCS, ""))),
        merchant_id=draw(st.sampled_from(["m-1", "m-2", ""])),
        utc_offset_minutes=draw(st.sampled_from([0, 50, 120])),
        event_time_ms=AT_MS,
    )
    vector = np.zeros(len(FEATURE_NAMES), np.float32)
    for name in ("amount", "card_count_1h", "is_night", "is_weekend"):
        vector[FEATURE_NAMES.index(name)] = draw(FEATURES)
    return transaction, ModelInputs(draw(st.floats(0, 1)), vector, FEATURE_HASHES)


def shuffled(said: Any, data: st.DataObject) -> Any:
    """Return the same with its keys in another order; the order of rules stays."""
    if isinstance(said, dict):
        keys = data.draw(st.permutations(list(said)))
        return {key: shuffled(said[key], data) for key in keys}
    return [shuffled(each, data) for each in said] if isinstance(said, list) else said


@given(rule_sets(), st.data())
@settings(max_examples=60, deadline=None)
def test_hash_is_the_same_for_every_order_of_keys(
    said: dict[str, Any], data: st.DataObject
) -> None:
    """The hash says what a set says, not how its file is laid out."""
    other = shuffled(said, data)

    assert RuleSet.model_validate(other).hash == RuleSet.model_validate(said).hash


@given(rule_sets(), st.data())
@settings(max_examples=60, deadline=None)
def test_hash_tells_every_change(said: dict[str, Any], data: st.DataObject) -> None:
    """A word more is another set."""
    changed = json.loads(json.dumps(said))
    place = data.draw(st.integers(0, len(said["rules"]) - 1))
    changed["rules"][place]["text"] += "!"

    assert RuleSet.model_validate(changed).hash != RuleSet.model_validate(said).hash


@given(rule_sets(), rows())
@settings(max_examples=150, deadline=None)
def test_whole_set_says_what_each_rule_says_alone(
    said: dict[str, Any], row: tuple[Transaction, ModelInputs]
) -> None:
    """One program of all rules is no more than all the rules, with a fault in one of them too."""
    program = RuleProgram(RuleSet.model_validate(said))
    alone = [
        signal
        for rule in said["rules"]
        for signal in RuleProgram(RuleSet.model_validate({**said, "rules": [rule]})).signals(*row)
    ]

    found = program.signals(*row)

    assert sorted(signal.code for signal in found) == sorted(signal.code for signal in alone)
    for model in (Action.ACTION_APPROVE, Action.ACTION_CHALLENGE, Action.ACTION_DECLINE):
        assert ruled_action(model, found) == ruled_action(model, alone)


@given(rule_sets(), rows())
@settings(max_examples=60, deadline=None)
def test_same_transaction_gets_the_same_signals_whatever_came_before(
    said: dict[str, Any], row: tuple[Transaction, ModelInputs]
) -> None:
    """Nothing of one transaction is left for the next."""
    program = RuleProgram(RuleSet.model_validate(said))
    first = program.signals(*row)
    other = ModelInputs(0.99, np.full(len(FEATURE_NAMES), 3.0, np.float32), FEATURE_HASHES)
    program.signals(purchase(merchant_id="m-2", mcc="6051"), other)

    assert program.signals(*row) == first
