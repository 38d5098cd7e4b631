"""The console's commands: serve, and make a user."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Final

from django.db import DatabaseError

from fraudstream.errors import InvalidSettings
from fraudstream.json_log import log_json
from fraudstream.privacy import read_secret
from fraudstream.settings import KafkaSettings, TelemetrySettings
from services.console.django_settings import configure_django
from services.console.settings import ConsoleSettings

_LOG: Final = logging.getLogger(__name__)
_STDIN: Final = "-"


def main(arguments: list[str]) -> int:
    """Run a command; return its exit code (sysexits)."""
    wanted = _parser().parse_args(arguments)
    log_json("console")
    # Its own chatter about every reconnect says nothing that our errors do not.
    logging.getLogger("kafka").setLevel(logging.ERROR)
    try:
        settings = ConsoleSettings.read()
        configure_django(settings)
        if wanted.command == "create-user":
            return _create_user(wanted.name, wanted.password_file)
        return _serve(settings)
    except InvalidSettings as exc:
        _LOG.critical("%s", exc)
        return os.EX_CONFIG
    except DatabaseError as exc:
        _LOG.critical("the database does not answer: %s", type(exc).__name__)
        return os.EX_UNAVAILABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.console", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="run the console (the default)")
    user = commands.add_parser("create-user", help="make a user, or set a new password")
    user.add_argument("name")
    user.add_argument(
        "--password-file", default=_STDIN, help="file with the password (mode 0400); - for stdin"
    )
    return parser


def _serve(settings: ConsoleSettings) -> int:
    """Run until SIGTERM. Django's models can be imported only now that it is configured."""
    from services.console.server import build, prepare_database

    kafka, telemetry = KafkaSettings.read(), TelemetrySettings.read()
    prepare_database(settings)
    build(settings, kafka, telemetry).run()
    return os.EX_OK


def _create_user(name: str, password_file: str) -> int:
    """Make a user. The password comes by file or stdin, so that no process list shows it."""
    from django.core.management import call_command

    from services.console.users import create_user

    is_stdin = password_file == _STDIN
    password = sys.stdin.readline() if is_stdin else read_secret(Path(password_file))
    call_command("migrate", verbosity=0, interactive=False)
    create_user(name, password.rstrip("\n"))
    print(f"user {name} can log in")  # the command's answer
    return os.EX_OK
