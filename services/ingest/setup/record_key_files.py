"""Commands `keys records`: make and rotate the keys of records' MACs.

A rotation loses no record: `add` gives every file a second key, which all services must have read
before `activate` has writers sign with it; `drop` follows when the last record of the old key has
expired.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fraudstream.broker.wire.record_keys import KeyFile, all_files, files_of, make_files
from fraudstream.errors import InvalidSettings
from fraudstream.keys.secret_files import Purpose, replace_secret
from fraudstream.privileges import PRINCIPALS, principal

_STEPS: Final[dict[str, tuple[str, Callable[[KeyFile], KeyFile]]]] = {
    "add": ("give each file one more key, which signs nothing yet", KeyFile.with_new_key),
    "activate": ("have the newest key of each file sign", KeyFile.with_newest_active),
    "drop": ("take the keys out that are older than the one that signs", KeyFile.without_old),
}


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the command line."""
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("make", help="make the files that a folder lacks")
    make.add_argument("folder", type=Path)
    make.add_argument(
        "--required-from",
        type=_instant,
        default=0,
        metavar="TIME",
        help="of an upgrade: records that the broker took before this time need no MAC"
        " (such as 2026-12-01T12:00:00Z)",
    )
    make.set_defaults(run=_make)
    for name, (text, step) in _STEPS.items():
        rotate = commands.add_parser(name, help=text)
        rotate.add_argument("folder", type=Path)
        rotate.set_defaults(run=_step, step=step)
    which = commands.add_parser("list", help="say which files services and commands need")
    names = [one.name for one in PRINCIPALS if files_of(one)]
    which.add_argument("principal", nargs="?", choices=names, help="this one's; all where none is")
    which.set_defaults(run=_list)


def _instant(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        msg = f"expected a time such as 2026-12-01T12:00:00Z, found {text}"
        raise argparse.ArgumentTypeError(msg) from None
    if found.tzinfo is None:
        raise argparse.ArgumentTypeError(f"expected a time with its zone, found {text}")
    return int(found.astimezone(UTC).timestamp() * 1_000)


def _make(asked: argparse.Namespace) -> int:
    for path in make_files(asked.folder, asked.required_from):
        print(path.name)
    return os.EX_OK


def _step(asked: argparse.Namespace) -> int:
    paths = [asked.folder / name for name in all_files()]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise InvalidSettings(f"{asked.folder}: expected also {', '.join(missing)}")
    for path in paths:
        file = asked.step(KeyFile.load(path))
        replace_secret(path, file.text(), Purpose.RECORD_KEYS)
        print(f"{path.name}: {file.active} signs, readers take {', '.join(file.keys)}")
    return os.EX_OK


def _list(asked: argparse.Namespace) -> int:
    if asked.principal:
        print("\n".join(files_of(principal(asked.principal))))
    else:
        print("\n".join(f"{one.name} {name}" for one in PRINCIPALS for name in files_of(one)))
    return os.EX_OK
