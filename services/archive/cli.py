"""The command line of the archive: without a command it runs the service."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from threading import Event

from fraudstream.archive.files import check_contiguous, list_files
from fraudstream.errors import FraudStreamError
from fraudstream.runtime.readiness import say_ready
from fraudstream.runtime.usage_parser import UsageParser, command_line
from fraudstream.settings import KafkaSettings
from fraudstream.telemetry.exported_metrics import serve_metrics
from fraudstream.telemetry.json_log import start_log
from services.archive.build import build
from services.archive.settings import ArchiveSettings
from services.archive.streams import STREAMS


def main(arguments: Sequence[str]) -> int:
    """Run the service or a command; return its exit code (sysexits)."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run())
    except FraudStreamError as exc:
        print(f"archive: {exc}", file=sys.stderr)
        return exc.exit_code
    except OSError as exc:
        print(f"archive: cannot write: {exc}", file=sys.stderr)
        return os.EX_TEMPFAIL


def _parser() -> UsageParser:
    parser = command_line("services.archive", __doc__)
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", parser_class=UsageParser)
    check = commands.add_parser("check", help="look for holes and overlaps between the files")
    check.set_defaults(run=_check)
    return parser


def _serve() -> int:
    start_log("archive")
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = ArchiveSettings.read()
    serve_metrics("archive", settings.metrics_port)
    with build(settings, KafkaSettings.read(), _announce) as loop:
        loop.run(stop)
    return os.EX_OK


def _announce() -> None:
    say_ready()


def _check() -> int:
    """Print what there is of each noun; a hole or an overlap is exit 78, no archive 66."""
    root = ArchiveSettings.read().root
    if not root.is_dir():
        print(
            f"archive: FRAUD_ARCHIVE_ROOT {root} is no folder: expected the root of an archive",
            file=sys.stderr,
        )
        return os.EX_NOINPUT
    for stream in STREAMS:
        files = list_files(root / stream.noun)
        check_contiguous(files)
        offsets = sum(file.last - file.first + 1 for file in files)
        print(json.dumps({"noun": stream.noun, "files": len(files), "offsets": offsets}))
    return os.EX_OK
