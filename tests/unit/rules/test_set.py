"""The file of a rule set: what it may say, and how a fault in it is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fraudstream.card_data.numbers import has_luhn_check
from fraudstream.errors import RuleSetRefused
from fraudstream.rules import rule_set as limits
from fraudstream.rules.program import RuleProgram
from fraudstream.rules.rule_set import parse_rule_set
from fraudstream.v1.decision_pb2 import Action
from harness.processes import PROJECT_FOLDER
from tests.material.rule_files import LISTS, rule, rule_file, rules_of
from tests.worlds.trust import RULES_FILE


def refused(content: str) -> str:
    """Return why a rule set is refused."""
    with pytest.raises(RuleSetRefused) as found:
        RuleProgram(parse_rule_set(content))
    return str(found.value)


def test_file_is_read() -> None:
    """Rules, lists and policy are where the file puts them."""
    found = rules_of(LISTS, rule("BIG", "score > 0.5", "decline"))

    assert (found.id, found.version) == ("cards", 1)
    assert found.rules[0].action == Action.ACTION_DECLINE
    assert found.stand_in.otherwise == Action.ACTION_REVIEW
    assert set(found.lists) == {"blocked_merchants", "watched_ips", "good_customers"}


def test_end_of_an_entry_is_the_end_of_its_day() -> None:
    """A date counts through, in UTC; a moment is a moment."""
    entries = rules_of(LISTS).lists["blocked_merchants"].entries

    assert entries["m-old"] == 1_767_571_200_000 + 86_400_000


def test_there_is_no_default_policy() -> None:
    """Who writes no policy has no rule set: nothing is approved because nobody thought of it."""
    assert refused('id = "cards"\nversion = 1') == "RULES_FILE: stand_in: Field required"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id = ", "expected TOML"),
        (rule_file().replace('"cards"', '"Cards!"'), "id: "),
        (rule_file(version=0), "version: "),
        (rule_file(stand_in='otherwise = "pass"'), "stand_in.otherwise: expected one of approve"),
        (rule_file("surprise = 1"), "stand_in.surprise: Extra inputs"),
        (rule_file(rule("low", "true")), "rules[0].code"),
        (rule_file(rule("ONE", "true"), rule("ONE", "true")), "each code once"),
        (rule_file(LISTS.replace('"block"', '"ban"')), "lists.blocked_merchants.kind"),
        (rule_file(LISTS.replace('"ip"', '"pan"')), "lists.watched_ips.of"),
        (rule_file(LISTS.replace("2001:db8::1", "here")), "expected IPv4 or IPv6"),
        (rule_file(LISTS.replace("2026-01-05", '"soon"')), "expected the end of the entry"),
        (rule_file(LISTS.replace("00:00:00Z", "00:00:00")), "expected the end of the entry"),
        (rule_file(LISTS.replace("m-bad", "")), "blocked_merchants"),
        ("# " + "x" * limits.MAX_BYTES, "bytes"),
        ("a = " + "[" * 5_000, "expected TOML"),
        (rule_file(rule("MANY", "true") * 301), "rules: "),
        (
            rule_file(
                stand_in='otherwise = "review"\n[[stand_in.caps]]\nchannels = ["shop"]\n'
                'up_to_minor = 1\naction = "approve"\nabove = "review"'
            ),
            "channels: expected some of",
        ),
    ],
)  # fmt: skip
def test_fault_is_told_with_its_place(content: str, said: str) -> None:
    """An author is told where it is and what was expected."""
    assert said in refused(content)


def test_no_card_number_is_kept_in_a_rule_set() -> None:
    """Not on a list, in a condition, in a comment; and the message does not repeat it."""
    head = "411111" + "0" * 9
    pan = next(f"{head}{digit}" for digit in range(10) if has_luhn_check(f"{head}{digit}"))

    said = refused(rule_file(f"# the card {pan[:8]} {pan[8:]}\n"))

    assert said == "RULES_FILE: line 5 holds a card number; write its card token"


def test_card_token_may_look_like_a_number() -> None:
    """Tokens are hexadecimal, and some have digits alone."""
    token = "bank.k1." + "4000000000000002" * 2
    cards = '[lists.cards]\nkind = "block"\nof = "card_token"\ntext = "x"\n[lists.cards.entries]\n'

    assert rules_of(f'{cards}"{token}" = 2030-01-01\n').lists["cards"].entries


def test_committed_rule_sets_are_fit_to_serve() -> None:
    """The cautious one of the images, and the one of the tests."""
    for path in (RULES_FILE, PROJECT_FOLDER / "services" / "scoring" / "rules.toml"):
        assert RuleProgram(parse_rule_set(path.read_text())).rule_set.id == "cards"


def test_importing_rules_brings_no_command_line_of_the_library() -> None:
    """Its terminal libraries are half a second of each start of scoring."""
    script = "import sys, fraudstream.rules.program; sys.exit('prompt_toolkit' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
