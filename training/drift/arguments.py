"""Command line of `drift`."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import Final

from fraudstream.models.psi import ALARM, WATCH
from fraudstream.runtime.usage_parser import day
from training.train.arguments import add_labels, file_to_write

ABOUT: Final = f"""\
Compares the features of now, and the score of a model, with a reference: population stability
index (PSI) by bins of the reference, a missing value is a bin of its own; {WATCH} is worth a look,
{ALARM} is an alarm. A set is the folder of a training set, or the root of an archive, whose
decisions hold features and scores. With --model a training set is scored by it, and where labels
have matured its calibration is checked too.
Exit codes: 0 no alarm, 1 alarm, 64 wrong usage, 65 the model is refused, 78 a set is not as
expected.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes, and that it is this."""
    parser.description = ABOUT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--reference", type=Path, required=True, metavar="SET")
    parser.add_argument("--current", type=Path, required=True, metavar="SET")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="artefact that scores")
    parser.add_argument(
        "--from",
        dest="from_day",
        type=day,
        default=date.min,
        metavar="DAY",
        help="first day of an archive given as --current",
    )
    parser.add_argument("--to", dest="to_day", type=day, default=date.max, metavar="DAY")
    add_labels(parser)
    parser.add_argument("--json", type=file_to_write, metavar="OUT", help="everything, as JSON")
    parser.add_argument(
        "--metrics", type=file_to_write, metavar="FILE.prom", help="gauges for a textfile collector"
    )
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    # ONNX Runtime takes its time to load, which a usage error does not need.
    from training.drift.comparison import Comparison, compare

    return compare(
        Comparison(
            reference=parsed.reference,
            current=parsed.current,
            from_day=parsed.from_day,
            to_day=parsed.to_day,
            model=parsed.model,
            json=parsed.json,
            metrics=parsed.metrics,
            unlabelled=parsed.unlabelled,
        )
    )
