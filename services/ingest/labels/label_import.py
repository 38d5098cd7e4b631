"""`labels import FILE`: a file of chargebacks and other labels, on to `labels.settled.v1`.

Each row is looked up, labelled and sent, or refused with its line and reason. A label's id is
derived from what it says, so a file that is imported again changes nothing.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TextIO

from fraudstream.card_data.detector import mask
from fraudstream.errors import BrokerUnavailable, InvalidTransaction
from fraudstream.runtime.clock import epoch_ms
from fraudstream.runtime.usage_parser import count
from fraudstream.settings import KafkaSettings
from fraudstream.v1.label_pb2 import Label
from services.ingest.labels.accepted_lookup import AcceptedLookup
from services.ingest.labels.bank_label import BankLabel, read_bank_label
from services.ingest.labels.files import FileRow, read_rows
from services.ingest.labels.settler import LabelOutlet, LabelSettler
from services.ingest.pan_opener import PanOpener
from services.ingest.settings import IngestSettings

# One pass over the archive for so many rows.
_CHUNK_ROWS: Final = 100_000
_ABOUT: Final = """\
Reads FILE (.csv, .jsonl or .parquet) with the columns bank_id, transaction_id, disposition and,
where there are, pan or card_token or pan_sealed with pan_key_id, event_time_ms, settled_at_ms,
label_id: see docs/labels.md.

Exit codes: 0 all rows are labels now, 65 some rows were refused (they are in the rejects file with
line and reason), 69 or 75 the broker is away (go on with --from-row), 78 the file, the archive or
a setting is missing or invalid.
"""
_HEAD: Final = ("row", "reason", "message", "bank_id", "transaction_id")


def add_import(parser: argparse.ArgumentParser) -> None:
    """Take the arguments of `labels import`."""
    parser.description = _ABOUT
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, help=".csv, .jsonl or .parquet")
    parser.add_argument(
        "--rejects", type=Path, help="CSV of the refused rows (FILE with .rejects.csv at its end)"
    )
    parser.add_argument(
        "--from-row", type=count, default=1, metavar="N", help="pass over the rows before (1)"
    )
    parser.set_defaults(run=_import)


@dataclass
class _Progress:
    """Counts of one run."""

    sent: int = 0
    refused: int = 0
    next_row: int = 1


def _import(asked: argparse.Namespace) -> int:
    settings = IngestSettings.read()
    tokeniser, _ = settings.tokeniser()
    lookup = AcceptedLookup(settings.archive_root)
    settler = LabelSettler(lookup, tokeniser, epoch_ms)
    pans = PanOpener.of(settings)
    rejects = asked.rejects or asked.file.with_name(f"{asked.file.name}.rejects.csv")
    rows = (row for row in read_rows(asked.file) if row.number >= asked.from_row)
    progress = _Progress(next_row=asked.from_row)
    with closing(LabelOutlet(KafkaSettings.read())) as outlet, _rejects_file(rejects) as refuse:
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            labels = _settled(settler, pans, chunk, refuse)
            _send(outlet, labels, progress)
            progress.sent += len(labels)
            progress.refused += len(chunk) - len(labels)
            progress.next_row = chunk[-1].number + 1
            _say(f"row {chunk[-1].number}: {progress.sent} sent, {progress.refused} refused")
    print(f"{progress.sent} labels sent, {progress.refused} rows refused")
    if progress.refused:
        _say(f"the refused rows are in {rejects}")
        return os.EX_DATAERR
    rejects.unlink(missing_ok=True)
    return os.EX_OK


def _send(outlet: LabelOutlet, labels: Sequence[Label], progress: _Progress) -> None:
    try:
        outlet.send(labels)
    except BrokerUnavailable as exc:
        raise BrokerUnavailable(f"{exc}; go on with --from-row {progress.next_row}") from exc


class _Rejects:
    """Writes refused rows, with no card number in them."""

    def __init__(self, file: TextIO) -> None:
        self._rows = csv.writer(file, lineterminator="\n")
        self._rows.writerow(_HEAD)

    def write(self, row: FileRow, fault: InvalidTransaction) -> None:
        """Write why a row was refused, and which it was."""
        ids = [mask(str((row.fields or {}).get(name, "")))[:64] for name in _HEAD[3:]]
        self._rows.writerow([row.number, str(fault.reason), fault.message, *ids])


@contextmanager
def _rejects_file(path: Path) -> Iterator[_Rejects]:
    with path.open("w", encoding="utf-8", newline="") as file:
        yield _Rejects(file)


def _settled(
    settler: LabelSettler, pans: PanOpener, rows: Sequence[FileRow], rejects: _Rejects
) -> list[Label]:
    """Return the labels of a chunk; the rows that have none are written down."""
    read: list[tuple[FileRow, BankLabel]] = []
    for row in rows:
        try:
            read.append((row, read_bank_label(pans.open_fields(row.fields))))
        except InvalidTransaction as exc:
            rejects.write(row, exc)
    labels = []
    outcomes = settler.settle([label for _, label in read])
    for (row, _), outcome in zip(read, outcomes, strict=True):
        if isinstance(outcome, Label):
            labels.append(outcome)
        else:
            rejects.write(row, outcome)
    return labels


def _say(text: str) -> None:
    print(f"labels: {text}", file=sys.stderr)
