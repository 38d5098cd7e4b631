"""The table of `fraudstream` has every command of every program, and every exit code."""

from __future__ import annotations

import re
from typing import Final

import pytest

from fraudstream.cli.main import entry_of, run
from fraudstream.cli.table import EXIT_CODES, PROGRAMS, all_commands, module_of
from harness.processes import PROJECT_FOLDER
from tests.material.commands import BROKER_COMMANDS, WITHOUT_BROKER

# What argparse shows where a command has commands of its own.
_COMMANDS: Final = re.compile(r"\{([\w,-]+)\}\s+\.\.\.")
# Programs that run without a command.
_BARE: Final = {"demo", "ingest", "scoring", "console", "archive"}


def help_of(program: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command's own `--help` prints."""
    try:
        code = entry_of(program)([*words, "--help"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def commands_of(program: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return every command of a program that has no commands below it."""
    found = set()
    to_ask: list[list[str]] = [[]]
    while to_ask:
        words = to_ask.pop()
        usage = help_of(program, words, capsys).partition("\n\n")[0]
        if below := _COMMANDS.search(usage):
            to_ask += [[*words, word] for word in below[1].split(",")]
        else:
            found.add(" ".join([program, *words]))
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_table_has_every_command_and_no_other(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader who looks through one page has seen all that there is."""
    listed = {command for command in all_commands() if command.split()[0] == program}

    assert listed == commands_of(program, capsys) | ({program} & _BARE)


def test_every_command_says_whether_it_needs_a_broker() -> None:
    """A new command that needs one is tried without: it ends with 69 (test_commands.py)."""
    program_of = {module_of(program): program for program in PROGRAMS}
    lines = [f"{program_of[module]} {words}".strip() for module, words in BROKER_COMMANDS]
    known = set(all_commands())

    tried = {max((c for c in known if f"{line} ".startswith(f"{c} ")), key=len) for line in lines}

    assert tried | WITHOUT_BROKER == known
    assert not tried & WITHOUT_BROKER


def test_help_page_has_the_codes_of_the_runbook() -> None:
    """One set of exit codes, whichever program ends."""
    page = (PROJECT_FOLDER / "docs" / "runbook.md").read_text()
    table = page.partition("## Exit codes")[2].partition("\n## ")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}

    assert set(EXIT_CODES) == documented | {0}


def test_unknown_command_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """64, with the nearest program; what was typed may hold a card number."""
    code = run(["scorin"])

    said = capsys.readouterr().err
    assert code == 64
    assert "did you mean `fraudstream scoring`?" in said
    assert "scorin " not in said
