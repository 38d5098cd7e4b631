"""The command line of ingest: without a command it runs the service."""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.errors import FraudStreamError
from fraudstream.keys.box_keys import BoxKeys, add_box_keys
from fraudstream.keys.secret_files import Purpose
from fraudstream.runtime.readiness import say_ready
from fraudstream.runtime.usage_parser import UsageParser, command_line
from fraudstream.settings import KafkaSettings, RatesSettings, TelemetrySettings
from fraudstream.telemetry.exported_metrics import serve_metrics
from fraudstream.telemetry.json_log import start_log
from fraudstream.transaction.card_token import rotate_token_keys, write_token_keys
from fraudstream.transaction.money import open_rate_table
from services.ingest.build import build, build_labels
from services.ingest.dead_letters import dlq
from services.ingest.labels import label_import
from services.ingest.settings import IngestSettings
from services.ingest.setup import privileges_command, record_key_files, topic_setup


def main(arguments: Sequence[str]) -> int:
    """Run the service or a command; return its exit code (sysexits)."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except FraudStreamError as exc:
        print(f"ingest: {exc}", file=sys.stderr)
        return exc.exit_code
    except OSError as exc:
        print(f"ingest: {exc}", file=sys.stderr)
        return os.EX_UNAVAILABLE


def _parser() -> UsageParser:
    parser = command_line("services.ingest", __doc__)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", parser_class=UsageParser)
    topic_setup.add_commands(commands.add_parser("topics", help="make or check all topics"))
    dlq.add_commands(commands.add_parser("dlq", help="list, show, correct and replay dead letters"))
    privileges_command.add_commands(
        commands.add_parser("privileges", help="who may do what, for the broker and the store")
    )
    labels = commands.add_parser("labels", help="take in what became of transactions")
    label_commands = labels.add_subparsers(required=True, parser_class=UsageParser)
    label_import.add_import(label_commands.add_parser("import", help="labels of a file"))
    follow = label_commands.add_parser("follow", help="labels of labels.raw.v1, until a signal")
    follow.set_defaults(run=_follow_labels)
    _add_keys(commands.add_parser("keys", help="make, rotate and show keys"))
    return parser


def _add_keys(keys: argparse.ArgumentParser) -> None:
    commands = keys.add_subparsers(required=True, parser_class=UsageParser)
    token = commands.add_parser("token", help="keys of the card tokens")
    token.add_argument("path", type=Path)
    token.add_argument("--rotate", action="store_true", help="add a key to the file and use it")
    token.set_defaults(run=_make_token_keys)
    seal = commands.add_parser("seal", help="pair of keys for dead letters")
    seal.add_argument("private_path", type=Path)
    seal.add_argument("public_path", type=Path)
    seal.set_defaults(run=_make_seal_keys)
    pan = commands.add_parser("pan", help="one more pair for card numbers that banks seal")
    pan.add_argument("folder", type=Path, help="of FRAUD_INGEST_PAN_PRIVATE_KEYS")
    pan.set_defaults(run=_make_pan_keys)
    public = commands.add_parser("public", help="one JSON line for each pan key: what banks need")
    public.add_argument("path", type=Path, help="private key, or folder of them")
    public.set_defaults(run=_show_pan_keys)
    records = commands.add_parser("records", help="keys of the MACs by which services know records")
    record_key_files.add_commands(records)


def _serve(_asked: argparse.Namespace) -> int:
    start_log("ingest")
    settings, kafka, telemetry = (
        IngestSettings.read(),
        KafkaSettings.read(),
        TelemetrySettings.read(),
    )
    rates = open_rate_table(RatesSettings.read().table_file)
    stop = _begin(settings)
    with build(settings, kafka, telemetry, rates, _announce) as loop:
        loop.run(stop)
    return os.EX_OK


def _follow_labels(_asked: argparse.Namespace) -> int:
    start_log("ingest")
    settings, kafka = IngestSettings.read(), KafkaSettings.read()
    stop = _begin(settings)
    with build_labels(settings, kafka, _announce) as loop:
        loop.run(stop)
    return os.EX_OK


def _begin(settings: IngestSettings) -> Event:
    """Serve a role's metrics; return what a signal to end sets."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serve_metrics("ingest", settings.metrics_port)
    return stop


def _announce() -> None:
    say_ready()


def _make_token_keys(asked: argparse.Namespace) -> int:
    if asked.rotate:
        rotated = rotate_token_keys(asked.path)
        print(f"{asked.path}: key {rotated.active} of {', '.join(rotated.keys)} is in use")
    else:
        write_token_keys(asked.path)
        print(f"{asked.path}: made, with one key")
    return os.EX_OK


def _make_seal_keys(asked: argparse.Namespace) -> int:
    print(write_seal_keys(asked.private_path, asked.public_path))
    return os.EX_OK


def _make_pan_keys(asked: argparse.Namespace) -> int:
    print(add_box_keys(asked.folder, Purpose.PAN_KEY))
    return os.EX_OK


def _show_pan_keys(asked: argparse.Namespace) -> int:
    for key_id, public in BoxKeys.load(asked.path, Purpose.PAN_KEY).public_keys.items():
        key = bytes(public)
        shown = {"pan_key_id": key_id, "public_key": base64.b64encode(key).decode()}
        print(json.dumps(shown | {"public_key_hex": key.hex()}))
    return os.EX_OK
