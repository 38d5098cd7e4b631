"""The command line: without a command it runs the service; errors become exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from aiokafka.errors import KafkaError

from fraudstream.errors import (
    BrokerUnavailable,
    InvalidSettings,
    InvalidTransaction,
    LogReplaced,
    ModelRefused,
    OnlineStoreUnavailable,
    RuleSetRefused,
)
from fraudstream.runtime.usage_parser import UsageParser, command_line
from fraudstream.telemetry.json_log import start_log
from services.scoring.cli import rules_command
from services.scoring.cli.replay_arguments import add_replay
from services.scoring.cli.token_command import add_token
from services.scoring.settings import ServiceSettings

_LOG = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Run the service or a command; return its exit code (sysexits)."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except (InvalidSettings, LogReplaced) as exc:
        return _ended(asked, str(exc), exc.exit_code)
    except ModelRefused as exc:
        return _ended(asked, f"the model is refused: {exc}", exc.exit_code)
    except RuleSetRefused as exc:
        return _ended(asked, f"the rule set is refused: {exc}", exc.exit_code)
    except InvalidTransaction as exc:
        return _ended(asked, f"the transaction is refused: {exc}", exc.exit_code)
    except (OnlineStoreUnavailable, BrokerUnavailable, KafkaError, OSError) as exc:
        return _ended(asked, f"scoring cannot go on: {exc}", os.EX_UNAVAILABLE)


def _ended(asked: argparse.Namespace, message: str, code: int) -> int:
    """Say why it ended, a service in its log and a command to its user; return the code."""
    if asked.run is _serve:
        _LOG.error(message)
    else:
        print(f"scoring: {message}", file=sys.stderr)
    return code


def _parser() -> UsageParser:
    parser = command_line("services.scoring", __doc__)
    parser.set_defaults(run=_serve)
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(257),
        metavar="N",
        help="processes that share the ports; 0 for one a core",
    )
    # How the group starts each of its workers.
    parser.add_argument("--worker", type=int, metavar="NUMBER", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(title="commands", parser_class=UsageParser)
    rules_command.add_commands(
        commands.add_parser("rules", help="check, try and publish rules and lists")
    )
    add_replay(commands.add_parser("replay", help="make a decision again, say what differs"))
    add_token(commands.add_parser("token", help="let a system call: makes its token"))
    return parser


def _serve(asked: argparse.Namespace) -> int:
    start_log("scoring")
    settings = ServiceSettings.read()
    if asked.workers is not None:
        scoring = settings.scoring.model_copy(update={"workers": asked.workers})
        settings = replace(settings, scoring=scoring)
    # A parent serves nothing itself: no engine, no kernel, no server is in its memory.
    if asked.worker is None and settings.scoring.processes > 1:
        from services.scoring.process.worker_group import run_group

        return run_group(settings.scoring)
    from services.scoring.process.serve import serve_alone, serve_as_worker

    if asked.worker is None:
        serve_alone(settings)
    else:
        serve_as_worker(settings, asked.worker)
    return os.EX_OK
