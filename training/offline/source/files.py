"""Parquet sources: which files and row groups there are, and their rows as canonical columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraudstream.archive.columns import ACCEPTED_COLUMNS, AMOUNT_REFERENCE, check_canonical
from fraudstream.archive.files import check_contiguous, list_files
from fraudstream.errors import InvalidSettings
from training.offline.layout import CHUNK_ROWS
from training.offline.plan import Content, Found, Request, Unit, fingerprint_of
from training.offline.source.checks import LARGEST_AMOUNT, Columns
from training.simulator.handbook_columns import COLUMNS, utc_offsets
from training.simulator.histories import HANDBOOK_BANK, HANDBOOK_LABEL_DELAY_MS

HANDBOOK: Final = "handbook"
# What canonical columns are called in its files, for messages.
_HANDBOOK_NAMES: Final = {
    "card_token": "CUSTOMER_ID",
    "transaction_id": "TRANSACTION_ID",
    "terminal_id": "TERMINAL_ID",
    "event_time_ms": "TX_DATETIME",
    AMOUNT_REFERENCE: "TX_AMOUNT",
}
_WANTED: Final = {
    Content.ROWS: {column.name for column in ACCEPTED_COLUMNS}
    | {"is_fraud", "label_arrival_time_ms"},
    Content.DECISIONS: {
        *("bank_id", "card_token", "transaction_id", "digest", "log_partition", "log_offset")
    },
    Content.LABELS: {
        *("bank_id", "card_token", "transaction_id", "event_time_ms", "arrival_time_ms"),
        *("disposition", "customer_id", "merchant_id", "terminal_id", "device_id", "ip"),
        *("log_partition", "log_offset"),
    },
}
_NEEDED: Final = {
    Content.ROWS: (),
    Content.DECISIONS: ("card_token", "transaction_id", "digest", "log_offset"),
    Content.LABELS: ("card_token", "transaction_id", "arrival_time_ms", "disposition"),
}


def find_files(request: Request) -> Found:
    """Return what lies under a request's source and its labels.

    Raises:
        InvalidSettings: A file cannot be read, lacks a column, or an archive has a hole.
    """
    source = Path(request.source)
    if not request.is_own:
        if request.segments:
            raise InvalidSettings("--segments: an archive has the canonical columns only")
        found = _find_archive(source)
    else:
        files = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
        found = [(Content.ROWS, 0, files)]
    if request.labels:
        found.append((Content.LABELS, 0, [Path(request.labels)]))
    units: list[Unit] = []
    schemas = [units_of(units, *chunk, request.format) for chunk in found]
    for name in request.segments:
        if any(name not in schema.names for schema in schemas[0]):
            raise InvalidSettings(f"--segments: {source} has no column {name} in each of its files")
    if not any(unit.content is Content.ROWS for unit in units):
        raise InvalidSettings(f"{source}: expected Parquet files with transactions, found none")
    is_log = _is_log(schemas[0], source, request.format)
    stats = [(path, path.stat()) for _, _, files in found for path in files]
    return Found(
        tuple(units),
        is_log,
        fingerprint_of([(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]),
    )


def _find_archive(root: Path) -> list[tuple[Content, int, list[Path]]]:
    """Return the archive's files by what they hold and which log they are of."""
    found = []
    nouns = (
        (Content.ROWS, "accepted"),
        (Content.DECISIONS, "decisions"),
        (Content.LABELS, "labels"),
    )
    for content, noun in nouns:
        files = list_files(root / noun)
        check_contiguous(files)
        for number, log in enumerate(dict.fromkeys(file.log for file in files)):
            found.append((content, number, [file.path for file in files if file.log == log]))
    return found


def units_of(
    units: list[Unit], content: Content, log: int, files: Sequence[Path], file_format: str
) -> list[pa.Schema]:
    """Add the row groups of some files to `units`, and return the files' schemas."""
    schemas = []
    begin = max((unit.end for unit in units if unit.content is content), default=0)
    for path in files:
        metadata, schema = _open(path)
        _check_schema(path, schema, content, file_format)
        for group in range(metadata.num_row_groups):
            end = begin + metadata.row_group(group).num_rows
            units.append(Unit(content, str(path), group, begin, end, log))
            begin = end
        schemas.append(schema)
    return schemas


def _open(path: Path) -> tuple[pq.FileMetaData, pa.Schema]:
    try:
        with pq.ParquetFile(path) as file:
            return file.metadata, file.schema_arrow
    except (OSError, pa.ArrowException) as exc:
        raise InvalidSettings(f"{path}: expected a Parquet file: {exc}") from exc


def _check_schema(path: Path, schema: pa.Schema, content: Content, file_format: str) -> None:
    needed: Sequence[str] = _NEEDED[content]
    if content is Content.ROWS:
        if file_format == HANDBOOK:
            needed = COLUMNS
        else:
            try:
                check_canonical(schema)
            except InvalidSettings as exc:
                raise InvalidSettings(f"{path}: {exc}") from exc
    missing = sorted(set(needed) - set(schema.names))
    if missing:
        found = ", ".join(schema.names) or "none"
        raise InvalidSettings(
            f"{path}: column {missing[0]} is missing: expected {', '.join(needed)}; found {found}"
        )


def _is_log(schemas: Sequence[pa.Schema], source: Path, file_format: str) -> bool:
    """Return whether rows have offsets: all files or none. The Handbook's ids are in log order."""
    if file_format == HANDBOOK:
        return True
    having = ["log_offset" in schema.names for schema in schemas]
    if any(having) and not all(having):
        raise InvalidSettings(
            f"{source}: {sum(having)} of {len(having)} files have a column log_offset: expected it"
            " in all of them or in none"
        )
    return all(having)


def read_file(unit: Unit, file_format: str, segments: Sequence[str] = ()) -> Iterator[Columns]:
    """Yield a row group's rows in chunks, as canonical columns.

    Raises:
        InvalidSettings: The file cannot be read.
    """
    is_handbook = unit.content is Content.ROWS and file_format == HANDBOOK
    wanted = set(COLUMNS) if is_handbook else _WANTED[unit.content]
    if unit.content is Content.ROWS:
        wanted = wanted | set(segments)
    first = unit.begin
    try:
        with pq.ParquetFile(unit.name) as file:
            names = [name for name in file.schema_arrow.names if name in wanted]
            # Row numbers in messages are the file's own.
            offset = sum(file.metadata.row_group(group).num_rows for group in range(unit.part))
            for batch in file.iter_batches(CHUNK_ROWS, row_groups=[unit.part], columns=names):
                raw = Columns(batch, unit.name, first, first - (unit.begin - offset))
                yield from_handbook(raw, segments) if is_handbook else raw
                first += batch.num_rows
    except (OSError, pa.ArrowException) as exc:
        raise InvalidSettings(f"{unit.name}: cannot be read: {exc}") from exc


def from_handbook(raw: Columns, segments: Sequence[str] = ()) -> Columns:
    """Return the Handbook's columns as canonical ones: one bank, one card a customer.

    A time without a zone is taken as UTC, one with a zone as local there. An id is an offset: the
    book's ids are in order of arrival. A fraud's label arrives 7 days after it.
    """
    euros = raw.numbers(
        "TX_AMOUNT", f"an amount, 0 to {LARGEST_AMOUNT // 100}", LARGEST_AMOUNT / 100
    )
    raw.refuse("TX_AMOUNT", ~(euros >= 0), "an amount, not negative")
    minor = np.round(euros * 100).astype(np.int64)
    raw.wholes("TX_FRAUD", (0, 2, "0 or 1"), None)
    for name in ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID"):
        is_missing = pc.is_null(raw.batch[name], nan_is_null=True)
        raw.refuse(name, is_missing.to_numpy(zero_copy_only=False), "an id")
    is_fraud = pc.equal(raw.batch["TX_FRAUD"].cast(pa.int8()), 1)
    is_timeless = raw.batch["TX_DATETIME"].is_null().to_numpy(zero_copy_only=False)
    raw.refuse("TX_DATETIME", is_timeless, "a time")
    zone = getattr(raw.batch["TX_DATETIME"].type, "tz", None)
    event = raw.batch["TX_DATETIME"].cast(pa.timestamp("ms", tz=zone)).cast(pa.int64())
    arrival = pc.if_else(is_fraud, pc.add(event, HANDBOOK_LABEL_DELAY_MS), pa.scalar(None, "int64"))
    # An amount of zero is what a bank sends as a verification, not as a purchase.
    kind = pc.if_else(pa.array(minor > 0), "purchase", "verification")
    columns = {
        "bank_id": pa.repeat(HANDBOOK_BANK, len(raw)),
        "card_token": raw.batch["CUSTOMER_ID"].cast(pa.string()),
        "transaction_id": raw.batch["TRANSACTION_ID"].cast(pa.string()),
        "terminal_id": raw.batch["TERMINAL_ID"].cast(pa.string()),
        "kind": kind,
        "channel": pa.repeat("pos", len(raw)),
        AMOUNT_REFERENCE: pa.array(minor),
        "event_time_ms": event,
        "is_fraud": is_fraud,
        "label_arrival_time_ms": arrival,
        "log_offset": raw.batch["TRANSACTION_ID"].cast(pa.int64()),
    }
    columns |= {name: raw.batch[name] for name in segments if name not in columns}
    if pa.types.is_timestamp(raw.batch["TX_DATETIME"].type) and raw.batch["TX_DATETIME"].type.tz:
        columns["utc_offset_minutes"] = utc_offsets(raw.batch["TX_DATETIME"])
    return Columns(
        pa.RecordBatch.from_pydict(columns),
        raw.name,
        raw.first,
        raw.row_of_first,
        raw.dropped,
        _HANDBOOK_NAMES,
    )
