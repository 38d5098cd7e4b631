"""What Feast's offline store reads: the archive of decisions, and Parquet files of batch views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FileSource
from feast.errors import FeastError
from pyarrow import dataset

from fraudstream.archive.columns import DECISION_SCHEMA
from fraudstream.archive.files import list_files
from fraudstream.feast_plugin.point_in_time import Ints
from fraudstream.features.catalogue import FEATURE_SET_HASH

_ID: Final = "decision_id"
_SET: Final = "feature_set_hash"
# A row's event is at most 5 minutes later than its arrival, and its file's day is no earlier.
_SLACK: Final = timedelta(days=1)


class QuestionRefused(FeastError):
    """Rows cannot be joined point in time: the question or its source is missing or invalid."""


@dataclass(frozen=True, slots=True)
class SourceRead:
    """What is read of a source.

    Attributes:
        source: The source.
        asked: Values that are asked for, of each key column.
        features: Columns that are answered.
        oldest: Event time before which no row is of use; None for no bound.
        is_archive: The source is the archive of decisions.
    """

    source: FileSource
    asked: Mapping[str, npt.NDArray[Any]]
    features: Sequence[str]
    oldest: pd.Timestamp | None
    is_archive: bool


@dataclass(frozen=True, slots=True)
class SourceRows:
    """Rows of a source; of one key and time the last in order is the last.

    Attributes:
        keys: Key columns.
        time_ns: int64 [N], event time, epoch nanoseconds.
        known_ns: int64 [N], when each row was made, epoch nanoseconds.
        features: The columns that are answered.
    """

    keys: pd.DataFrame
    time_ns: Ints
    known_ns: Ints
    features: pa.Table


def read_source(read: SourceRead, repo_path: Any) -> SourceRows:
    """Return a source's rows, in the order in which they became known.

    Args:
        read: What is read.
        repo_path: Where a relative path of the source begins.

    Raises:
        QuestionRefused: There are no files, or they lack a column.
    """
    path = FileSource.get_uri_for_file_path(repo_path, read.source.path)
    table = _archived(read, path) if read.is_archive else _plain(read, path)
    time_field = read.source.timestamp_field
    table = table.filter(pc.is_valid(table[time_field])).combine_chunks()
    created = read.source.created_timestamp_column or time_field
    return SourceRows(
        pd.DataFrame(
            {name: table[name].to_pandas() for name in read.asked}, index=range(len(table))
        ),
        _nanoseconds(table[time_field]),
        _nanoseconds(table[created]),
        table.select(list(read.features)),
    )


def _archived(read: SourceRead, path: str) -> pa.Table:
    """Return decisions in the log's order: of an identity the first, as the decision is.

    What was decided with another feature set is null.
    """
    files = list_files(Path(path))
    if not files:
        msg = (
            f"no archived decisions under {path}: expected the files of services.archive; apply"
            " the views with FRAUD_ARCHIVE_ROOT as the archive has it"
        )
        raise QuestionRefused(msg)
    if read.oldest is not None:
        from_day = (read.oldest - _SLACK).date()
        files = [file for file in files if file.day >= from_day]
    times = [read.source.timestamp_field, read.source.created_timestamp_column]
    names = dict.fromkeys([*read.asked, *times, _ID, _SET, *read.features])
    schema = pa.schema([DECISION_SCHEMA.field(name) for name in names])
    found = dataset.dataset([str(file.path) for file in files], schema=schema, format="parquet")
    wanted = pc.scalar(True)
    for name, values in read.asked.items():
        wanted &= pc.field(name).isin(pa.array(values, schema.field(name).type))
    table = found.to_table(filter=wanted)
    table = table.filter(pa.array(~table[_ID].to_pandas().duplicated().to_numpy(np.bool_)))
    is_current = pc.equal(table[_SET].cast(pa.string()), FEATURE_SET_HASH)
    nothing = pa.scalar(None, pa.float32())
    for name in read.features:
        column = pc.if_else(is_current, table[name], nothing)
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _plain(read: SourceRead, path: str) -> pa.Table:
    """Return a batch view's rows, sorted by when they were made."""
    endpoint = read.source.s3_endpoint_override or ""
    system, location = FileSource.create_filesystem_and_path(path, endpoint)
    column_of = {name: column for column, name in read.source.field_mapping.items()}
    times = [read.source.timestamp_field, read.source.created_timestamp_column]
    names = dict.fromkeys(name for name in [*read.asked, *times, *read.features] if name)
    try:
        found = dataset.dataset(location, filesystem=system, format="parquet", partitioning="hive")
        columns = {name: pc.field(column_of.get(name, name)) for name in names}
        table = found.to_table(columns=columns)
    except (OSError, ValueError) as exc:
        msg = f"{path}: expected Parquet with the columns {', '.join(names)}: {exc}"
        raise QuestionRefused(msg) from exc
    created = read.source.created_timestamp_column
    if not created:
        return table
    return table.take(np.argsort(_nanoseconds(table[created]), kind="stable"))


def _nanoseconds(column: pa.ChunkedArray) -> Ints:
    """Return moments as epoch nanoseconds, int64 [N]; without a time zone they are UTC."""
    moments = pd.to_datetime(column.to_pandas(), utc=True)
    found: Ints = moments.to_numpy("datetime64[ns]").astype(np.int64)
    return found
