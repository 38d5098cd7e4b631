"""The command line of the demo: run, send, replay."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from demo.replay import ReplayOptions, run_replay
from demo.run import DEMO_SEED, RunOptions, run_demo
from demo.send import send_sample
from fraudstream.errors import FraudStreamError
from fraudstream.runtime.usage_parser import command_line, count, midnight_ms

_ABOUT: Final = """\
Runs the whole fraudstream line on this machine: broker and store, then ingest, features,
scoring and console as processes of their own, then simulated card traffic with several kinds
of fraudster among it. Ctrl-C ends everything.

The broker is the one that FRAUD_KAFKA_BOOTSTRAP names, else Apache Kafka where KAFKA_HOME and
Java 17 are, else an embedded one that needs neither. The store is the one that FRAUD_REDIS_URL
names, else an embedded Valkey. On servers that were there before, a run has a prefix of its own for
topics and keys, unless FRAUD_KAFKA_TOPIC_PREFIX and FRAUD_REDIS_KEY_PREFIX say another."""
_EXAMPLES: Final = """\
examples:
  python -m demo                                   until Ctrl-C, with a live table
  python -m demo --for 60 --summary out.json       unattended; counts as JSON
  python -m demo send samples/approve.json         one transaction to the line that runs
  python -m demo replay FILE.parquet --from 2018-08-08 --days 7 --summary out.json

exit codes: 0 all well; 1 an accepted transaction has no decision; 64 wrong usage; 65 what was sent
is refused; 66 a file is not there; 69 a server or service did not start, or no line runs; 78 a
setting or file is not valid"""
_INTERRUPTED: Final = 130


def positive(text: str) -> float:
    """Return a positive number, for argparse.

    >>> positive("2.5")
    2.5
    """
    number = float(text)
    if not number > 0:
        raise ValueError(text)
    return number


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line("demo", _ABOUT)
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "--for",
        dest="duration_s",
        type=positive,
        metavar="S",
        help="end after S seconds of traffic",
    )
    parser.add_argument(
        "--rate", type=positive, default=50.0, metavar="N", help="transactions per second (50)"
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the counts as JSON")
    parser.add_argument("--seed", type=int, default=DEMO_SEED, help="seed of the traffic")
    parser.add_argument(
        "--chargeback-after",
        type=positive,
        default=20.0,
        metavar="S",
        help="seconds from a fraud to its chargeback (20; in life it is weeks)",
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of a live table")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("var/demo"),
        help="where a run keeps keys, logs and the console's database (var/demo)",
    )
    _add_commands(parser)
    return parser.parse_args(arguments)


def _add_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="command", title="commands")
    send = commands.add_parser("send", help="send one transaction to the line that runs")
    send.add_argument("sample", type=Path, help="JSON file, such as samples/approve.json")
    replay = commands.add_parser("replay", help="a recorded data set through the whole line")
    replay.add_argument("file", type=Path, help="Parquet file with the Handbook's columns")
    replay.add_argument(
        "--from",
        dest="from_ms",
        type=midnight_ms,
        required=True,
        metavar="DAY",
        help="first day of the span, UTC, as 2018-08-08; what is before it is the past",
    )
    replay.add_argument("--days", type=count, default=7, metavar="N", help="length of the span (7)")
    replay.add_argument(
        "--summary",
        dest="replay_summary",
        type=Path,
        metavar="FILE",
        help="write the figures as JSON",
    )
    replay.add_argument(
        "--model", type=Path, metavar="FOLDER", help="artefact to serve; else one is trained"
    )


def run(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code (sysexits)."""
    try:
        chosen = parse(arguments)
    except SystemExit as exc:
        return os.EX_USAGE if exc.code else os.EX_OK
    try:
        return _dispatch(chosen)
    except FraudStreamError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED


def _dispatch(chosen: argparse.Namespace) -> int:
    if chosen.command == "send":
        return send_sample(chosen.sample, chosen.folder)
    if chosen.command == "replay":
        return run_replay(
            ReplayOptions(
                chosen.file,
                chosen.from_ms,
                chosen.days,
                chosen.replay_summary,
                chosen.folder,
                chosen.model,
            )
        )
    options = RunOptions(
        chosen.duration_s,
        chosen.rate,
        chosen.summary,
        chosen.folder,
        chosen.seed,
        chosen.chargeback_after,
        chosen.plain,
    )
    return run_demo(options)
