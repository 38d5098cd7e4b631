"""The command line of the benchmark: choose figures, measure, print, write."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.console import Console

from fraudstream.errors import FraudStreamError
from fraudstream.runtime.usage_parser import UsageParser
from loadtest.bench.figure import Experiment, Figure, Plan
from loadtest.bench.interleave import Measured, measure
from loadtest.bench.report import json_rows, print_table

_OK, _BELOW_MUST, _USAGE, _UNAVAILABLE = 0, 1, 64, 69  # sysexits, and 1
_RUNS: Final = 5

_ABOUT: Final = """\
Measure figures side by side: every side is set up and warm before it is measured, then all sides
run in turns, round by round. A figure's value is the median of its rounds; the interval encloses
that median in nine of ten cases, whatever the distribution (for five runs: smallest to largest).
CPU time is user plus system time of the processes concerned, with all their threads, read before
and after a run; start-up and warm-up are never in it.
"""
_EPILOG: Final = """\
examples:
  python -m loadtest.bench --list
  python -m loadtest.bench --only line_vs_plain --json vs-plain.json
  python -m loadtest.bench --scale 0.01 --runs 1      does it run at all? The values say nothing.

A figure that needs what this machine lacks (Apache Kafka: set KAFKA_HOME, with Java 17) is skipped
by name with the reason. Servers and services are started for the measurement and ended after it;
FRAUD_KAFKA_BOOTSTRAP names a broker that runs already, for the figures that take any broker.

Measure on a quiet machine. The load average is printed: above the number of cores, CPU times are
inflated (1.3 to 2 times) and wall times worse; ratios of one run suffer less.

JSON: a list of rows {"name", "value", "unit", "must", "aim", "runs", "spread", "command"}; `value`
is the median and `spread` its interval. Rows may also hold `apart` (what was measured beside the
figure, such as the broker's CPU) and `skipped` (why there is no value).

exit codes: 0 done, 1 a figure does not reach its must, 64 usage, 69 a side could not be
measured
"""


def run(arguments: Sequence[str], experiments: Sequence[Experiment]) -> int:
    """Run the command and return its exit code; wrong usage exits 64 by itself."""
    figures = [figure for experiment in experiments for figure in experiment.figures]
    asked = _parser(figures).parse_args(arguments)
    if asked.list:
        for figure in figures:
            print(f"{figure.name:24} {figure.what} ({figure.unit})")
        return _OK
    try:
        found = _measure(experiments, asked)
    except FraudStreamError as exc:
        _say(str(exc))
        return _UNAVAILABLE
    print_table(found, Console())
    if asked.json:
        asked.json.write_text(json_rows(found, _options(asked)))
    return _OK if all(measured.reaches_must for measured in found) else _BELOW_MUST


def _parser(figures: Sequence[Figure]) -> argparse.ArgumentParser:
    parser = UsageParser(
        prog="python -m loadtest.bench",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, names = parser.add_argument, [figure.name for figure in figures]
    which = "measure this figure; repeat for more (default: all)"
    rounds, kept = f"rounds (default {_RUNS})", "keep logs and server files in this new folder"
    add("--only", action="append", metavar="NAME", choices=names, help=which)
    add("--json", type=Path, metavar="FILE", help="write the rows to a file")
    add("--list", action="store_true", help="list the figures and measure nothing")
    add("--runs", type=_positive, default=_RUNS, metavar="N", help=rounds)
    add("--scale", type=_share, default=1.0, metavar="X", help="share of the rows (default 1)")
    add("--keep", type=_empty_folder, metavar="FOLDER", help=kept)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 100:
        raise argparse.ArgumentTypeError(f"expected more than 0, at most 100, found {text}")
    return share


def _empty_folder(text: str) -> Path:
    folder = Path(text)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise argparse.ArgumentTypeError(f"expected a new or empty folder, found {text}")
    return folder


def _options(asked: argparse.Namespace) -> list[str]:
    options = [] if asked.runs == _RUNS else ["--runs", str(asked.runs)]
    return options + ([] if asked.scale == 1 else ["--scale", f"{asked.scale:g}"])


def _measure(experiments: Sequence[Experiment], asked: argparse.Namespace) -> list[Measured]:
    """Measure every experiment that has a figure which was asked for."""
    _say(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    found: list[Measured] = []
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="fraud-bench-")
        folder = asked.keep or Path(stack.enter_context(made))
        for number, experiment in enumerate(experiments):
            wanted = [f for f in experiment.figures if not asked.only or f.name in asked.only]
            if wanted:
                plan = Plan(asked.runs, asked.scale, folder / str(number))
                found += [m for m in measure(experiment, plan, _say) if m.figure in wanted]
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
