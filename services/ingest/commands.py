"""The command line of ingest: without a command it runs the service."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Final

from kafka.errors import KafkaError

from fraudstream.dead_letter import write_seal_keys
from fraudstream.errors import BrokerUnavailable, InvalidSettings
from fraudstream.json_log import log_json
from fraudstream.privacy import write_token_keys
from fraudstream.readiness import say_ready
from fraudstream.settings import KafkaSettings, TelemetrySettings
from fraudstream.telemetry import serve_metrics
from fraudstream.usage_parser import UsageParser
from services.ingest import dlq, topic_setup
from services.ingest.build import build
from services.ingest.settings import IngestSettings

_LOG: Final = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Run the service or a command; return its exit code (sysexits)."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except InvalidSettings as exc:
        print(f"ingest: {exc}", file=sys.stderr)
        return os.EX_CONFIG
    except BrokerUnavailable as exc:
        print(f"ingest: {exc}", file=sys.stderr)
        return os.EX_TEMPFAIL
    except (KafkaError, OSError) as exc:
        print(f"ingest: Kafka does not answer: {type(exc).__name__}", file=sys.stderr)
        return os.EX_UNAVAILABLE


def _parser() -> UsageParser:
    parser = UsageParser(prog="python -m services.ingest", description=__doc__)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", parser_class=UsageParser)
    topic_setup.add_commands(commands.add_parser("topics", help="make or check all topics"))
    dlq.add_commands(commands.add_parser("dlq", help="list, show, mend and replay dead letters"))
    keys = commands.add_parser("keys", help="make new key files").add_subparsers(required=True)
    token = keys.add_parser("token", help="keys of the card tokens")
    token.add_argument("path", type=Path)
    token.set_defaults(run=_make_token_keys)
    seal = keys.add_parser("seal", help="pair of keys for dead letters")
    seal.add_argument("private_path", type=Path)
    seal.add_argument("public_path", type=Path)
    seal.set_defaults(run=_make_seal_keys)
    return parser


def _serve(_asked: argparse.Namespace) -> int:
    log_json("ingest")
    logging.getLogger("kafka").setLevel(logging.WARNING)
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = IngestSettings.read()
    serve_metrics(settings.metrics_port)
    with build(settings, KafkaSettings.read(), TelemetrySettings.read(), _announce) as loop:
        loop.run(stop)
    return os.EX_OK


def _announce() -> None:
    say_ready()


def _make_token_keys(asked: argparse.Namespace) -> int:
    write_token_keys(asked.path)
    return os.EX_OK


def _make_seal_keys(asked: argparse.Namespace) -> int:
    write_seal_keys(asked.private_path, asked.public_path)
    return os.EX_OK
