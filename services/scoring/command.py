"""The command line: without a command it runs the service; errors become exit codes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import uvloop
from aiokafka.errors import KafkaError

from fraudstream.errors import (
    BrokerUnavailable,
    InvalidSettings,
    InvalidTransaction,
    ModelRefused,
    OnlineStoreUnavailable,
    RuleSetRefused,
)
from fraudstream.json_log import log_json
from fraudstream.telemetry import serve_metrics
from services.scoring import rules_command
from services.scoring.build import build
from services.scoring.replay_arguments import add_replay
from services.scoring.settings import ServiceSettings

_LOG = logging.getLogger(__name__)


class _Parser(argparse.ArgumentParser):
    """Ends with sysexits' code for a wrong command line."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str]) -> int:
    """Run the service or a command; return its exit code (sysexits)."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except InvalidSettings as exc:
        return _ended(asked, str(exc), os.EX_CONFIG)
    except ModelRefused as exc:
        return _ended(asked, f"the model is refused: {exc}", exc.exit_code)
    except RuleSetRefused as exc:
        return _ended(asked, f"the rule set is refused: {exc}", exc.exit_code)
    except InvalidTransaction as exc:
        return _ended(asked, f"the transaction is refused: {exc}", os.EX_DATAERR)
    except (OnlineStoreUnavailable, BrokerUnavailable, KafkaError, OSError) as exc:
        return _ended(asked, f"scoring cannot go on: {exc}", os.EX_UNAVAILABLE)


def _ended(asked: argparse.Namespace, message: str, code: int) -> int:
    """Say why it ended, a service in its log and a command to its user; return the code."""
    if asked.run is _serve:
        _LOG.error(message)
    else:
        print(f"scoring: {message}", file=sys.stderr)
    return code


def _parser() -> _Parser:
    parser = _Parser(prog="python -m services.scoring", description=__doc__)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", parser_class=_Parser)
    rules_command.add_commands(
        commands.add_parser("rules", help="check, try and publish rules and lists")
    )
    add_replay(commands.add_parser("replay", help="make a decision again, say what differs"))
    return parser


def _serve(_asked: argparse.Namespace) -> int:
    log_json("scoring")
    settings = ServiceSettings.read()
    serve_metrics(settings.scoring.metrics_port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))
    return os.EX_OK


async def _run(settings: ServiceSettings) -> None:
    service = await build(settings)
    service.stop_on_signals()
    await service.run(lambda: print("ready", flush=True))
