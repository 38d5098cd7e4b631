"""The pages that a reader has: their blocks, their commands, and the words that name things."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraudstream.cli.table import PROGRAMS, module_of
from harness.processes import PROJECT_FOLDER

ROOT: Final = PROJECT_FOLDER
PAGES: Final = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "clients").rglob("*.md")]
)
SHELL: Final = ("", "sh", "bash", "console")

_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`([^`\n]+)`")
_COMMAND: Final = re.compile(r"python -m ([a-z_.]+)(.*)")
_BY_NAME: Final = re.compile(rf"(?<![\w./-])fraudstream ({'|'.join(PROGRAMS)})(?![\w-])(.*)")
_OPTION: Final = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        language: What stands after the fence; may be empty.
        text: Its lines.
        line: Line of its fence in the page, from 1.
    """

    language: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    """A `python -m MODULE ...` or `fraudstream PROGRAM ...` that a page names.

    Attributes:
        module: What is run.
        words: Its sub-commands and arguments before the first option.
        options: Its long options, wherever they stand, also in brackets or in a comment.
    """

    module: str
    words: tuple[str, ...]
    options: frozenset[str]


def page_name(page: Path) -> str:
    """Return a page's path from the root, for test names."""
    return str(page.relative_to(ROOT))


def blocks_of(text: str) -> list[Block]:
    """Return a page's fenced blocks in order."""
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)
        for found in _BLOCK.finditer(text)
    ]


def code_of(text: str) -> list[str]:
    """Return the code spans of a page's own text, without those of its blocks."""
    return _CODE.findall(_BLOCK.sub("", text))


def commands_of(text: str) -> Iterator[Command]:
    """Yield every command of ours that a page names, in blocks and in code spans."""
    lines = [line for block in blocks_of(text) for line in block.text.splitlines()]
    for line in [*lines, *code_of(text)]:
        if found := _COMMAND.search(line):
            module = found[1]
        elif found := _BY_NAME.search(line):
            module = module_of(found[1])
        else:
            continue
        yield Command(module, tuple(_words(found[2])), frozenset(_OPTION.findall(found[2])))


def _words(rest: str) -> Iterator[str]:
    """Yield the words that come before a command's first option, placeholder or comment."""
    for word in shlex.split(rest, comments=True):
        if word.startswith(("-", "[", "…", "...", "<", ">", "|", "&")):
            return
        yield word
