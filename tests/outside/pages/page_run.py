"""A page run as a reader would: its shell blocks, in order, in one shell, to the letter."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.processes import ChildProcess, wait_until
from tests.outside.pages.pages import Block

_BEGIN: Final = "@@ begin"
_END: Final = "@@ end"
_ANY: Final = "…"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a reader types.

    Attributes:
        typed: The lines.
        expected: What the page says that it prints, `…` for anything; None where it says nothing.
    """

    typed: str
    expected: str | None


@dataclass(frozen=True, slots=True)
class Printed:
    """What a step printed."""

    step: Step
    text: str


def steps_of(block: Block) -> list[Step]:
    """Return the steps of a block: a `console` block has one for each prompt, others are one."""
    if block.language != "console":
        return [Step(block.text, None)]
    _, *prompts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    typed = [prompt.partition("\n") for prompt in prompts]
    return [Step(f"{command}\n", expected or None) for command, _, expected in typed]


def is_as_said(text: str, expected: str) -> bool:
    """Return whether an output is what a page says, where `…` stands for anything.

    >>> is_as_said("user ada can log in", "user … can log in")
    True
    """
    pattern = ".*".join(map(re.escape, expected.strip().split(_ANY)))
    return re.fullmatch(pattern, text.strip(), re.DOTALL) is not None


class PageRun:
    """One shell that types a page's steps. What they start in the background lives until `end`.

    Args:
        steps: What to type.
        folder: The shell's first folder.
        environment: Variables besides this process's own.
        log: Where all output goes.
    """

    def __init__(
        self, steps: list[Step], folder: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        self._steps = steps
        script = log.with_suffix(".sh")
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(_script_of(steps, folder))
        command = ["bash", "-eu", "-o", "pipefail", str(script)]
        # As after `. .venv/bin/activate`, with which a reader begins (docs/start.md).
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._shell = ChildProcess(log.stem, command, log, {"PATH": path, **environment})

    def run(self, timeout_s: float) -> list[Printed]:
        """Type all of it and return what was printed, step by step.

        A step that fails ends the shell, as a careful reader would stop; the last one printed is
        then the one that failed.

        Raises:
            AssertionError: It failed, or took longer than the bound.
        """
        self._shell.start()
        wait_until(lambda: not self._shell.is_running or self._is_done(), timeout_s, 0.2)
        text = self._shell.log_text()
        assert self._is_done(), f"stopped after {timeout_s} s or by an error:\n{text[-4000:]}"
        printed = re.split(rf"^{_BEGIN}\n", text.partition(f"{_END}\n")[0], flags=re.MULTILINE)[1:]
        return [Printed(step, one) for step, one in zip(self._steps, printed, strict=True)]

    def end(self) -> None:
        """End the shell and all that it started."""
        self._shell.kill()

    def _is_done(self) -> bool:
        return f"{_END}\n" in self._shell.log_text()


def _script_of(steps: list[Step], folder: Path) -> str:
    """Return the steps as one script, which stays when it is through: its children need it."""
    lines = [f"cd {shlex.quote(str(folder))}"]
    for step in steps:
        lines += [f"echo '{_BEGIN}'", step.typed.rstrip("\n")]
    return "\n".join([*lines, f"echo '{_END}'", "wait", ""])
