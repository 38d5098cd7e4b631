"""Command line of the certificate."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fraudstream.parity.initial import InitialStates
from fraudstream.parity.recorded import Span
from fraudstream.runtime.usage_parser import moment_ms
from training.parity.certify import Proof, run_parity
from training.parity.planted import BUGS, NO_BUG

_ALWAYS = Span(0, sys.maxsize)

ABOUT = """\
Replays transactions.accepted.v1, entities.keyed.v1 and the decisions of decisions.made.v1 through
the kernel that serves, and compares the features of every decision with those it was made from,
bit for bit. Prints how many were compared and how many are identical, and the first that is not.
A past that was loaded into the store beside the log is named by --past, or its decisions differ.
Kafka is where FRAUD_KAFKA_* say. Exit codes: 0 parity holds, 1 it does not, 66 there is nothing to
compare, 69 the broker does not answer, 78 a setting or file is not valid.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes, and that it is this."""
    parser.description = ABOUT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--from",
        dest="from_ms",
        type=moment_ms,
        default=_ALWAYS.from_ms,
        metavar="TIME",
        help="first event time, ISO 8601, UTC unless it says otherwise",
    )
    parser.add_argument(
        "--to",
        dest="until_ms",
        type=moment_ms,
        default=_ALWAYS.until_ms,
        metavar="TIME",
        help="event time at which to stop, not itself proven",
    )
    parser.add_argument(
        "--past", type=Path, metavar="FILE", help="what was loaded into the store beside the log"
    )
    parser.add_argument(
        "--plant-bug", choices=sorted(BUGS), help="make the driver or kernel wrong: it must fail"
    )
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    bug = BUGS[parsed.plant_bug] if parsed.plant_bug else NO_BUG
    span = Span(parsed.from_ms, parsed.until_ms)
    return run_parity(Proof(span, bug, InitialStates.read(parsed.past)))
