"""docs/rules.md: its file, its transaction and its commands are as it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fraudstream.rules import rule_set, tokens
from fraudstream.rules.entries import EntryField
from fraudstream.rules.program import MAX_TOKENS, RuleProgram
from fraudstream.rules.rule_set import parse_rule_set
from fraudstream.topics import ALL, RULES
from harness.processes import PROJECT_FOLDER
from services.scoring.cli.main import main

PAGE = (PROJECT_FOLDER / "docs" / "rules.md").read_text()


def block(language: str) -> str:
    """Return the page's one block of a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_commands_print_what_the_page_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command of the page, on the file and the transaction of the page."""
    monkeypatch.chdir(tmp_path)
    Path("rules.toml").write_text(block("toml"))
    Path("payment.json").write_text(block("json"))
    rule_set_hash = RuleProgram(parse_rule_set(block("toml"))).hash
    _, *steps = block("console").split("$ python -m services.scoring ")

    for step in steps:
        command, said = step.split("\n", 1)

        assert main(shlex.split(command)) == 0
        assert capsys.readouterr().out == said.replace("HASH", rule_set_hash)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("approve", "nothing fires"),
        ("decline", "decline    BLOCKED_MERCHANTS  "),
        ("review", "no model: review"),
    ],
)
def test_a_sample_of_the_project_can_be_tried(
    sample: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its marks, which are filled when it is sent, are filled here too."""
    rules, file = PROJECT_FOLDER / "demo" / "rules.toml", f"samples/{sample}.json"

    assert main(["rules", "test", str(rules), "--transaction", str(PROJECT_FOLDER / file)]) == 0
    assert any(line.startswith(said) for line in capsys.readouterr().out.splitlines())


def test_every_field_of_a_list_is_named() -> None:
    """An author finds what a list can be of."""
    for field in EntryField:
        assert str(field) in block("toml")


def test_bounds_are_those_of_the_code() -> None:
    """A bound that is not kept is no bound."""
    assert (
        f"Bounds: {rule_set.MAX_BYTES >> 10} KiB, {rule_set.MAX_RULES} rules, {tokens.MAX_TOKENS} "
        f"words and marks a condition and {MAX_TOKENS:,} in all, {tokens.MAX_NESTING} nested "
        f"brackets, {rule_set.MAX_LISTS} lists, {rule_set.MAX_ENTRIES:,} entries. "
        "Keys have a few parts, not thousands."
    ) in PAGE


def test_topic_keeps_every_version_of_each_set() -> None:
    """For ever: a scorer that starts finds what is in force."""
    assert RULES in ALL
    assert (RULES.name, RULES.key) == ("rules.published.v1", "rule-set id")
    assert RULES.retention_ms == -1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["rules", "check", "absent.toml"], 78, "UTF-8: No such file or directory"),
        (["rules", "check", "bad.toml"], 65, "RULES_FILE"),
        (["rules", "test", "rules.toml", "--transaction", "none.json"], 78, "cannot read"),
        (["rules", "test", "rules.toml", "--transaction", "bad.toml"], 65, "DECODE"),
    ],
)
def test_commands_say_by_their_exit_code_what_is_wrong(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    """The message says what was expected, on one line."""
    monkeypatch.chdir(tmp_path)
    Path("rules.toml").write_text(block("toml"))
    Path("bad.toml").write_text("id =")

    assert main(arguments) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["rules"],
        ["rules", "forget"],
        ["rules", "test", "f", "--transaction", "t", "--score", "2"],
        ["rules", "test", "f", "--transaction", "t", "--feature", "card_is_new_devise=1"],
        ["rules", "publish", "f"],
    ],
)
def test_wrong_usage_ends_with_64(arguments: list[str]) -> None:
    """As every command of the project."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 64
