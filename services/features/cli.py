"""The command line of the features service."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Final

from fraudstream.errors import BrokerUnavailable, InvalidSettings, OnlineStoreUnavailable
from fraudstream.faust_worker import leave_when_asked
from fraudstream.json_log import log_json
from fraudstream.telemetry import serve_metrics
from services.features import rebuild_command
from services.features.build import ROLES, AllSettings, build

_EXIT_UNAVAILABLE: Final = 69
_EXIT_CONFIG: Final = 78

_ABOUT: Final = """\
Moves the states of cards and shared entities on and has every accepted row scored.

Settings come from FRAUD_FEATURES_*, FRAUD_KAFKA_*, FRAUD_REDIS_* and FRAUD_TELEMETRY_*.
Exit codes: 69 broker or store away at the start, 75 no progress, or a rebuild that is not done
(start it again), 78 settings, or a store that has the layout of another release.
"""

_ROLES: Final = {
    "card": "read transactions.accepted.v1: features, decisions, state write",
    "entity": "read entities.keyed.v1: states of terminals, for the card role to read",
    "label": "read labels.settled.v1: labels on to their entities",
}


def main(arguments: Sequence[str]) -> int:
    """Run a worker until a signal, or a command; return the exit code."""
    asked = _parser().parse_args(arguments)
    log_json(f"features-{asked.role_or_command}", logging.WARNING)
    try:
        if asked.role_or_command == "rebuild":
            return rebuild_command.rebuild(rebuild_command.asked_of(asked))
        leave_when_asked()
        settings = AllSettings()
        serve_metrics(settings.features.metrics_port)
        build(asked.role_or_command, settings).run()
    except InvalidSettings as exc:
        sys.stderr.write(f"features: {exc}\n")
        return _EXIT_CONFIG
    except (BrokerUnavailable, OnlineStoreUnavailable) as exc:
        sys.stderr.write(f"features: {exc}\n")
        return _EXIT_UNAVAILABLE
    return 0


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m services.features", description=_ABOUT, formatter_class=formatter
    )
    commands = parser.add_subparsers(
        title="roles and commands", dest="role_or_command", required=True
    )
    for role in sorted(ROLES):
        commands.add_parser(role, help=_ROLES[role])
    rebuild_command.add_arguments(
        commands.add_parser(
            "rebuild", help="fill the store anew from the log", formatter_class=formatter
        )
    )
    return parser
