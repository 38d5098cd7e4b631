"""The command line of the features service."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from fraudstream.broker.faust_process import leave_when_asked
from fraudstream.errors import FraudStreamError
from fraudstream.runtime.usage_parser import UsageParser, command_line
from fraudstream.telemetry.exported_metrics import serve_metrics
from fraudstream.telemetry.json_log import start_log
from services.features.process.build import ROLES, AllSettings, build
from services.features.rebuild import rebuild_command

_ABOUT: Final = """\
Moves the states of cards and shared entities on and has every accepted row scored.

Settings come from FRAUD_FEATURES_*, FRAUD_KAFKA_*, FRAUD_REDIS_* and FRAUD_TELEMETRY_*.
Exit codes: 64 wrong arguments, 69 broker or store away at the start, 75 no progress, or a rebuild
that is not done (start it again), 78 settings, or a store that has the layout of another release.
"""

_ROLES: Final = {
    "card": "read transactions.accepted.v1: features, decisions, state write",
    "entity": "read entities.keyed.v1: states of terminals, for the card role to read",
    "label": "read labels.settled.v1: labels on to their entities",
}


def main(arguments: Sequence[str]) -> int:
    """Run a worker until a signal, or a command; return the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        start_log(f"features-{asked.role_or_command}")
        if asked.role_or_command == "rebuild":
            return rebuild_command.rebuild(rebuild_command.asked_of(asked))
        leave_when_asked()
        settings = AllSettings()
        serve_metrics("features", settings.features.metrics_port)
        build(asked.role_or_command, settings).run()
    except FraudStreamError as exc:
        sys.stderr.write(f"features: {exc}\n")
        return exc.exit_code
    return 0


def _parser() -> UsageParser:
    parser = command_line("services.features", _ABOUT)
    commands = parser.add_subparsers(
        title="roles and commands",
        dest="role_or_command",
        required=True,
        parser_class=UsageParser,
    )
    for role in sorted(ROLES):
        commands.add_parser(role, help=_ROLES[role])
    rebuild_command.add_arguments(
        commands.add_parser(
            "rebuild",
            help="fill the store again from the log",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    return parser
