"""Reads labels of a file in chunks, each row with its number: CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow.parquet as pq
from pyarrow.lib import ArrowException

from fraudstream.errors import InvalidSettings, MissingFile
from fraudstream.v1.label_pb2 import BankLabel

_NEEDED: Final = frozenset(("bank_id", "transaction_id", "disposition"))
_KNOWN: Final = frozenset(BankLabel.DESCRIPTOR.fields_by_name)
_PARQUET_ROWS: Final = 10_000


class FileRow(NamedTuple):
    """One row of a file.

    Attributes:
        number: Its line, from 1 and with the head; in Parquet its row, from 1.
        fields: What it holds; None where it is no record at all.
    """

    number: int
    fields: Mapping[str, object] | None


def read_rows(path: Path) -> Iterator[FileRow]:
    """Yield the rows of a file, of the form that its name ends with.

    Raises:
        InvalidSettings: It cannot be read, has another form, or lacks a needed column.
    """
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix)
    if reader is None:
        expected = ", ".join(readers)
        raise InvalidSettings(f"{path}: expected a file that ends with one of {expected}")
    try:
        yield from reader(path)
    except OSError as exc:
        raise MissingFile(f"{path}: cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, csv.Error, ArrowException) as exc:
        # What the error says may be of the file's content.
        raise InvalidSettings(f"{path}: cannot be read: {type(exc).__name__}") from exc


def _check_columns(path: Path, found: Mapping[str, object] | list[str]) -> None:
    missing = sorted(_NEEDED - set(found))
    if missing:
        # Without a line of names, what is found is the first label.
        known = [name for name in found if name in _KNOWN]
        raise InvalidSettings(
            f"{path}: expected columns {', '.join(missing)}, found {', '.join(known) or 'none'}"
            f" of the known ones and {len(found) - len(known)} others"
        )


def _csv_rows(path: Path) -> Iterator[FileRow]:
    # Spreadsheets put a byte order mark before the first name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        _check_columns(path, list(reader.fieldnames or ()))
        for row in reader:
            # More cells than the head has names: something is not quoted.
            is_whole = None not in row and None not in row.values()
            yield FileRow(reader.line_num, row if is_whole else None)


def _json_rows(path: Path) -> Iterator[FileRow]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                fields = None
            yield FileRow(number, fields if isinstance(fields, dict) else None)


def _parquet_rows(path: Path) -> Iterator[FileRow]:
    file = pq.ParquetFile(path)
    _check_columns(path, file.schema_arrow.names)
    number = 0
    for batch in file.iter_batches(_PARQUET_ROWS):
        for row in batch.to_pylist():
            number += 1
            yield FileRow(number, row)
