"""The demo's rules are scoring's own, and a few more."""

from __future__ import annotations

from pathlib import Path

from demo.run import RULES
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.rule_set import RuleSet, parse_rule_set
from harness.line import DEMO_RULES


def _read(path: Path) -> RuleSet:
    return parse_rule_set(path.read_text())


def test_demo_rules_keep_what_scoring_brings() -> None:
    """A newcomer sees the stand-in policy and the rule that the images hold."""
    own, brought = _read(RULES), _read(DEMO_RULES)

    assert own.stand_in == brought.stand_in
    assert set(brought.rules) < set(own.rules)
    assert brought.lists.keys() == own.lists.keys()


def test_demo_rules_can_be_served() -> None:
    """Every condition is understood."""
    assert RuleProgram(_read(RULES)).hash
