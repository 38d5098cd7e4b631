"""Command line of training sets."""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings
from fraudstream.features.catalogue import SEQUENCE_LENGTH
from fraudstream.runtime.usage_parser import count, moment_ms
from fraudstream.settings import RatesSettings
from fraudstream.transaction.indicative_rates import REFERENCE_CURRENCY
from fraudstream.transaction.iso_codes import CURRENCY_EXPONENTS
from fraudstream.transaction.money import RateTable, load_rate_table
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
        type=moment_ms,
        default=0,
        metavar="TIME",
        help="first event time that is kept, ISO 8601, UTC unless it says otherwise",
    )
    parser.add_argument(
        "--to",
        dest="until_ms",
        type=moment_ms,
        default=_FOR_EVER_MS,
        metavar="TIME",
        help="event time at which to stop, not itself kept",
    )
    parser.add_argument(
        "--labels-until",
        dest="labels_until_ms",
        type=moment_ms,
        default=-1,
        metavar="TIME",
        help="is_fraud tells what was known before this time; the last word by default",
    )
    parser.add_argument(
        "--drop-refused",
        action="store_true",
        help="leave out rows that ingest would refuse, and count them; else one ends the run",
    )
    parser.add_argument(
        "--segments",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns of the source by which `evaluate` divides the tested rows; never features",
    )
    parser.add_argument(
        "--reference-currency",
        choices=sorted(CURRENCY_EXPONENTS),
        metavar="CODE",
        help="ISO 4217 code of the reference amounts, as the rate table that serves has it; that of"
        f" --rate-table by default, else {REFERENCE_CURRENCY}",
    )
    parser.add_argument(
        "--rate-table",
        type=Path,
        metavar="FILE",
        help="converts amounts of a source without amount_reference_minor, as ingest does; that of"
        " FRAUD_RATES_TABLE_FILE by default",
    )
    parser.add_argument("--processes", type=count, default=os.cpu_count() or 1)
    parser.add_argument(
        "--shards", type=count, default=0, help="more shards take less memory in each process"
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


def _rates_of(parsed: argparse.Namespace) -> RateTable | None:
    path = parsed.rate_table or RatesSettings.read().table_file
    return load_rate_table(path) if path else None


def _reference_of(parsed: argparse.Namespace, rates: RateTable | None) -> str:
    """Return the reference currency: that of the rates, where there are some."""
    asked: str | None = parsed.reference_currency
    if rates is None:
        return asked or REFERENCE_CURRENCY
    if asked not in (None, rates.reference_currency):
        msg = f"--reference-currency: expected {rates.reference_currency}, as the rate table has"
        raise InvalidSettings(f"{msg}, found {asked}")
    return rates.reference_currency


def _run(parsed: argparse.Namespace) -> int:
    if parsed.from_ms >= parsed.until_ms:
        raise InvalidSettings("--from: expected a time before --to")
    rates = _rates_of(parsed)
    request = Request(
        source=parsed.source,
        format=parsed.format,
        labels=parsed.labels,
        from_ms=parsed.from_ms,
        until_ms=parsed.until_ms,
        labels_until_ms=parsed.labels_until_ms,
        shards=parsed.shards,
        steps=parsed.steps,
        is_dropping=parsed.drop_refused,
        reference_currency=_reference_of(parsed, rates),
        rates=rates,
        segments=tuple(parsed.segments),
    )
    try:
        made = make_dataset(request, parsed.out, parsed.processes)
    except BrokenProcessPool:
        print(_ENDED, file=sys.stderr)
        return _TRY_AGAIN
    print(json.dumps(made["counts"], indent=1, sort_keys=True))
    if not made["counts"]["wanted"]:
        print(f"{parsed.out}: no transaction of the source lies in that time", file=sys.stderr)
    return 0
