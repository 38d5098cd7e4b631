"""The console's commands about users and the audit trail. Each change of a user is an event of it.

Django's models can be imported only after it is configured, so `commands` imports this late.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from django.contrib.auth.models import User

from fraudstream.keys.secret_files import read_secret
from fraudstream.runtime.clock import epoch_ms
from services.console import audit
from services.console.audit import Act, Event
from services.console.sign_in.second_factor import enrolled_device
from services.console.sign_in.throttle import forget_name
from services.console.sign_in.users import (
    account_of,
    create_user,
    forget_second_factor,
    set_enabled,
    user_of,
)

_STDIN: Final = "-"


def run_account_command(wanted: argparse.Namespace) -> int:
    """Run one of the commands; return its exit code."""
    commands: Mapping[str, Callable[[argparse.Namespace], int]] = {
        "create-user": _create_user,
        "change-user": _change_user,
        "list-users": _list_users,
        "audit": _print_audit,
    }
    # The next event in the service's log covers these too: its hash follows theirs.
    logging.getLogger(audit.__name__).setLevel(logging.WARNING)
    return commands[wanted.command](wanted)


def _create_user(wanted: argparse.Namespace) -> int:
    """Make a user. The password comes by file or stdin, so that no process list shows it."""
    is_stdin = wanted.password_file == _STDIN
    password = sys.stdin.readline() if is_stdin else read_secret(Path(wanted.password_file))
    create_user(wanted.name, password.rstrip("\n"), epoch_ms())
    _note(Event.USER_CREATED, wanted.name, audit.DONE)
    print(f"user {wanted.name} can log in, and chooses a new password then")
    return os.EX_OK


def _change_user(wanted: argparse.Namespace) -> int:
    """Unlock, disable or enable a user, or have them set up an authenticator again."""
    user = user_of(wanted.name)
    if wanted.act == "unlock":
        forget_name(user.get_username())
    elif wanted.act == "reset-second-factor":
        forget_second_factor(user)
    else:
        set_enabled(user, is_enabled=wanted.act == "enable", now_ms=epoch_ms())
    _note(Event.USER_CHANGED, user.get_username(), wanted.act)
    print(f"user {user.get_username()}: {wanted.act} is done")
    return os.EX_OK


def _list_users(_: argparse.Namespace) -> int:
    """Print each user, for the review of accounts (PCI DSS 7.2.4)."""
    for user in User.objects.order_by("username"):
        account = account_of(user, epoch_ms())
        state = "enabled" if user.is_active else "disabled"
        factor = "second factor" if enrolled_device(user) else "no second factor"
        day = datetime.fromtimestamp(account.signed_in_at_ms / 1000, UTC).date()
        print(f"{user.get_username()}\t{state}\t{factor}\tlast login or change {day}")
    return os.EX_OK


def _print_audit(wanted: argparse.Namespace) -> int:
    """Print the trail as lines of JSON, and say whether its chain holds."""
    start = datetime.combine(wanted.since, datetime.min.time(), UTC)
    count, head, breaks = 0, "", 0
    for row, fits in audit.events(int(start.timestamp() * 1000)):
        print(audit.line_of(row))
        count, head = count + 1, row.chain_hash
        if not fits:
            breaks += 1
            print(f"console: event {row.id} does not follow the one before it", file=sys.stderr)
    print(f"console: {count} events, newest {head or 'none'}", file=sys.stderr)
    return os.EX_DATAERR if breaks else os.EX_OK


def _note(event: Event, name: str, outcome: str) -> None:
    audit.append(Act(event, outcome, name), epoch_ms(), audit.OPERATOR, "")
