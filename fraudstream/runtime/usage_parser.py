"""A command line that knows its release and ends as sysexits says."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Final, NoReturn

from fraudstream.card_data.detector import kind_of
from fraudstream.version import VERSION

# `fraudstream.cli`, whose script and module have this name.
_COMMAND: Final = "fraudstream"
# Ids and digests, whose digits may look like a number by chance.
_DIGEST: Final = re.compile(r"\b(?=[0-9]*[a-f])[0-9a-f]{32,64}\b")
_ELSEWHERE: Final = (
    "a command line is seen by others and kept in the shell's history. Name files otherwise, and"
    " give a record in a file or on stdin"
)


class UsageParser(argparse.ArgumentParser):
    """Ends with 64 (EX_USAGE) for a wrong command line, where argparse would end with 2.

    A command line is seen by every user of the machine and kept in a shell's history. One that
    holds a card number is refused before anything repeats it.
    """

    def parse_known_args(  # type: ignore[override]  # argparse's has overloads for its namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Read arguments, of which none may hold a card number, or be no text."""
        given = sys.argv[1:] if args is None else list(args)
        for number, text in enumerate(given, 1):
            # Python has half a character for each such byte, which no database takes.
            if text != text.encode(errors="replace").decode():
                self.error(f"argument {number} is no UTF-8")
            if kind_of(_DIGEST.sub("", text)):
                self.error(f"argument {number} holds a card number: {_ELSEWHERE}")
        return super().parse_known_args(given, namespace or argparse.Namespace())

    def error(self, message: str) -> NoReturn:
        """Say how the command is used and what was wrong, and end."""
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


def command_line(module: str, about: str | None) -> UsageParser:
    """Return the parser of a program: its `--help` shows `about` as it stands.

    Usage lines name the program as it was started: `fraudstream NAME` or `python -m MODULE`.

    >>> command_line("services.ingest", None).prog
    'python -m services.ingest'
    """
    started = Path(sys.argv[0]).with_suffix("").parts
    is_by_name = started[-1:] == (_COMMAND,) or started[-2:] == (_COMMAND, "__main__")
    name = f"{_COMMAND} {module.rpartition('.')[2]}" if is_by_name else f"python -m {module}"
    form = argparse.RawDescriptionHelpFormatter
    parser = UsageParser(prog=name, description=about, formatter_class=form)
    parser.add_argument("--version", action="version", version=f"fraudstream {VERSION}")
    return parser


def day(text: str) -> date:
    """Return a day that was given as an argument, for argparse.

    >>> day("2027-12-31")
    datetime.date(2027, 12, 31)
    """
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        msg = f"expected a day as YYYY-MM-DD, found {text!r}"
        raise argparse.ArgumentTypeError(msg) from exc


def count(text: str) -> int:
    """Return a whole number from 1 on that was given as an argument, for argparse.

    >>> count("3")
    3
    """
    if text.isascii() and text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, found {text}")


def midnight_ms(text: str) -> int:
    """Return the begin of a day that was given as an argument, UTC, epoch milliseconds.

    >>> midnight_ms("1970-01-02")
    86400000
    """
    return _epoch_ms(datetime.combine(day(text), time(), UTC))


def moment_ms(text: str) -> int:
    """Return a time that was given as an argument, in epoch milliseconds, UTC by default.

    >>> moment_ms("1970-01-02"), moment_ms("1970-01-01T01:00+01:00")
    (86400000, 0)
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        msg = f"expected a time as YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS+00:00, found {text!r}"
        raise argparse.ArgumentTypeError(msg) from exc
    return _epoch_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _epoch_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)
