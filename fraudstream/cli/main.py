"""`fraudstream PROGRAM ...`: finds the program, imports it alone, and hands the arguments on."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fraudstream.cli.table import COMMANDS, EXIT_CODES, PROGRAMS, all_commands
from fraudstream.runtime.private_files import keep_files_private
from fraudstream.version import VERSION

_PACKAGE: Final = Path(__file__).parents[1]
_ABOUT: Final = """\
usage: fraudstream COMMAND [--help] [ARGUMENTS]
       fraudstream completion bash|zsh|fish
       fraudstream --version

Decides, while a card payment is still waiting, whether it looks like fraud.
"""


def main() -> int:
    """Run the command line of this process; return the exit code (sysexits)."""
    return run(sys.argv[1:])


def run(arguments: Sequence[str]) -> int:
    """Run a program, or show what there is; return the exit code (sysexits).

    >>> run(["--version"])
    fraudstream 0.1.0
    0
    """
    match list(arguments):
        case [] | ["-h" | "--help" | "help"]:
            print(help_page(), end="")
        case ["--version"]:
            print(f"fraudstream {VERSION}")
        case ["completion", *words]:
            # Shells ask for it at each key; nothing else needs it.
            from fraudstream.cli.completion import complete

            return complete(words)
        case [name, *rest] if name in PROGRAMS:
            keep_files_private()
            return entry_of(name)(rest)
        case [name, *_]:
            return _unknown(name)
    return os.EX_OK


def entry_of(program: str) -> Callable[[Sequence[str]], int]:
    """Import a program; return its entry point.

    Programs lie beside the package in a source tree, and within it where it is installed.
    """
    installed = _PACKAGE / "_programs"
    folder = str(installed if installed.is_dir() else _PACKAGE.parent)
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)
        # Programs start others by `python -m`.
        others = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{others}" if others else folder
    entry: Callable[[Sequence[str]], int] = pkgutil.resolve_name(PROGRAMS[program])
    return entry


def help_page() -> str:
    """Return the table of all commands by who needs them, and the exit codes."""
    width = max(map(len, all_commands())) + 2
    lines = [_ABOUT]
    for reader, commands in COMMANDS.items():
        lines += [reader, *(f"  {name:{width}}{does}" for name, does in commands.items()), ""]
    lines += ["Exit codes", *(f"  {code:<4}{means}" for code, means in EXIT_CODES.items())]
    return "\n".join(lines) + "\n"


def _unknown(name: str) -> int:
    """Say what was expected. The word is not repeated: it may hold a card number."""
    from difflib import get_close_matches

    near = get_close_matches(name, [*PROGRAMS, "completion"], 1)
    hint = f"; did you mean `fraudstream {near[0]}`?" if near else ""
    print(
        "usage: fraudstream COMMAND [--help] [ARGUMENTS]\n"
        f"fraudstream: expected one of {', '.join(PROGRAMS)} or completion{hint}\n"
        "`fraudstream --help` lists all commands",
        file=sys.stderr,
    )
    return os.EX_USAGE
