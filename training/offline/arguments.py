"""Command line of training sets."""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fraudstream.features.catalogue import SEQUENCE_LENGTH
from training.offline.build import make_dataset
from training.offline.plan import KAFKA, Request

_FOR_EVER_MS: Final = sys.maxsize

_TRY_AGAIN: Final = 75  # sysexits
_ENDED: Final = (
    "a process was ended from outside, for its memory perhaps: call again with the same arguments,"
    " with fewer --processes, to go on"
)

ABOUT = """\
Turns Kafka's log or Parquet files into a point-in-time training set: the vector and sequence of
each transaction as the stream computes them, from what had arrived before it, and its label.
A run that was cut off goes on where it was when it is called again with the same arguments.
docs/data.md describes sources and result. Exit codes: 0 made, 64 wrong usage, 69 the broker does
not answer, 75 a process was ended (call again), 78 a source or setting is not as expected.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes, and that it is this."""
    parser.description = ABOUT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="folder of the training set")
    parser.add_argument(
        "--source",
        default=KAFKA,
        help="kafka (where FRAUD_KAFKA_* say), a Parquet file, a folder of them, or an archive",
    )
    parser.add_argument("--format", choices=["canonical", "handbook"], default="canonical")
    parser.add_argument("--labels", default="", metavar="FILE", help="Parquet file of labels")
    parser.add_argument(
        "--from",
        dest="from_ms",
        type=_epoch_ms,
        default=0,
        metavar="TIME",
        help="first event time that is kept, ISO 8601, UTC unless it says otherwise",
    )
    parser.add_argument(
        "--to",
        dest="until_ms",
        type=_epoch_ms,
        default=_FOR_EVER_MS,
        metavar="TIME",
        help="event time at which to stop, not itself kept",
    )
    parser.add_argument(
        "--labels-until",
        dest="labels_until_ms",
        type=_epoch_ms,
        default=-1,
        metavar="TIME",
        help="is_fraud tells what was known before this time; the last word by default",
    )
    parser.add_argument("--processes", type=_count, default=os.cpu_count() or 1)
    parser.add_argument(
        "--shards", type=_count, default=0, help="more shards take less memory in each process"
    )
    parser.add_argument(
        "--steps",
        type=int,
        choices=range(1, SEQUENCE_LENGTH + 1),
        default=SEQUENCE_LENGTH,
        metavar="N",
        help="last steps of each sequence to keep: the network needs all, boosting 1, the row",
    )
    parser.set_defaults(run=_run)


def _epoch_ms(text: str) -> int:
    """Return an ISO 8601 date or time as epoch milliseconds."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _run(parsed: argparse.Namespace) -> int:
    request = Request(
        source=parsed.source,
        format=parsed.format,
        labels=parsed.labels,
        from_ms=parsed.from_ms,
        until_ms=parsed.until_ms,
        labels_until_ms=parsed.labels_until_ms,
        shards=parsed.shards,
        steps=parsed.steps,
    )
    try:
        made = make_dataset(request, parsed.out, parsed.processes)
    except BrokenProcessPool:
        print(_ENDED, file=sys.stderr)
        return _TRY_AGAIN
    print(json.dumps(made["counts"], indent=1, sort_keys=True))
    return 0
