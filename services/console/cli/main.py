"""The console's commands: serve, bring the tables up to date, users, the audit trail."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from datetime import date
from typing import Final

from django.db import DatabaseError

from fraudstream.broker.wire.record_keys import hold_as
from fraudstream.errors import InvalidSettings
from fraudstream.runtime.free_address import check_free
from fraudstream.runtime.usage_parser import UsageParser, command_line, day
from fraudstream.settings import KafkaSettings, RatesSettings, TelemetrySettings
from fraudstream.telemetry.exported_metrics import check_metrics_port
from fraudstream.telemetry.json_log import start_log
from fraudstream.transaction.money import load_rate_table
from services.console.django_settings import configure_django
from services.console.settings import ConsoleSettings

_LOG: Final = logging.getLogger(__name__)
_ACCOUNT_COMMANDS: Final = ("create-user", "change-user", "list-users", "audit")
_ACTS: Final = ("unlock", "disable", "enable", "reset-second-factor")
_OF_PEOPLE: Final = ("migrate", *_ACCOUNT_COMMANDS)


def main(arguments: list[str]) -> int:
    """Run a command; return its exit code (sysexits)."""
    wanted = _parser().parse_args(arguments)
    try:
        start_log("console")
        settings = ConsoleSettings.read()
        rate_table = RatesSettings.read().table_file
        if rate_table is not None:
            settings = settings.with_currency_of(load_rate_table(rate_table))
        configure_django(settings)
        if wanted.command in _ACCOUNT_COMMANDS:
            return _change_accounts(wanted, settings)
        if wanted.command == "migrate":
            return _migrate(settings)
        return _serve(settings)
    except InvalidSettings as exc:
        return _ended(wanted, str(exc), exc.exit_code)
    except DatabaseError as exc:
        said = str(exc).strip() or type(exc).__name__
        return _ended(wanted, f"the database does not answer: {said}", os.EX_UNAVAILABLE)


def _ended(wanted: argparse.Namespace, message: str, code: int) -> int:
    """Say why it ended, a service in its log and a command to its user; return the code."""
    if wanted.command in _OF_PEOPLE:
        print(f"console: {message}", file=sys.stderr)
    else:
        _LOG.critical(message)
    return code


def _parser() -> UsageParser:
    parser = command_line("services.console", __doc__)
    commands = parser.add_subparsers(dest="command", parser_class=UsageParser)
    commands.add_parser("serve", help="run the console (the default)")
    commands.add_parser("migrate", help="bring the tables up to date, as their owner, and end")
    user = commands.add_parser("create-user", help="make a user, or set a new first password")
    user.add_argument("name")
    user.add_argument(
        "--password-file", default="-", help="file with the password (mode 0400); - for stdin"
    )
    change = commands.add_parser("change-user", help="unlock, disable, enable a user")
    change.add_argument("name")
    change.add_argument("act", choices=_ACTS)
    commands.add_parser("list-users", help="list users, for a review")
    trail = commands.add_parser("audit", help="print the audit trail and check its chain")
    trail.add_argument("--since", type=day, default=date(1970, 1, 1), help="first day, YYYY-MM-DD")
    return parser


def _serve(settings: ConsoleSettings) -> int:
    """Run until SIGTERM. Django's models can be imported only now that it is configured."""
    from services.console.web.server import build, prepare_database

    kafka, telemetry = KafkaSettings.read(), TelemetrySettings.read()
    hold_as(kafka, "console")
    # Gunicorn tries again for seconds and ends with 1, and its worker with a traceback.
    check_free(settings.host, settings.port, "FRAUD_CONSOLE_PORT")
    check_metrics_port("console", settings.metrics_port)
    prepare_database(settings)
    build(settings, kafka, telemetry).run()
    return os.EX_OK


def _migrate(settings: ConsoleSettings) -> int:
    """Bring the tables up to date: for a role that may make them, where the console's may not."""
    from services.console.web.server import prepare_database

    prepare_database(settings.model_copy(update={"database_migrates": True}))
    print("the tables are those of this release")  # the command's answer
    return os.EX_OK


def _change_accounts(wanted: argparse.Namespace, settings: ConsoleSettings) -> int:
    """Run a command about users or the trail, on tables of this release."""
    from django.core.management import call_command

    from services.console.cli.accounts import run_account_command

    if settings.database_migrates:
        call_command("migrate", verbosity=0, interactive=False)
    return run_account_command(wanted)
