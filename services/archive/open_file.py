"""A file that is being written: under a temporary name until it is whole and on the disk."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.archive.files import file_path
from fraudstream.errors import InvalidSettings
from fraudstream.runtime.crashpoint import crash_point
from services.archive.log_partition import LogPartition

_COMPRESSION: Final = "zstd"


class OpenFile:
    """One file of one partition.

    Args:
        source: Whose records it holds.
        first: Offset that it begins with.
        day: UTC day of its first record.
    """

    def __init__(self, source: LogPartition, first: int, day: date) -> None:
        self.first = first
        self.day = day
        self._source = source
        self._temporary = source.temporary_path(first)
        schema = source.stream.schema
        # Packed numbers do not repeat; a dictionary of them only costs.
        repeating = [f.name for f in schema if not pa.types.is_binary(f.type)]
        self._sink = pa.OSFile(str(self._temporary), "wb")
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression=_COMPRESSION,
            use_dictionary=repeating,  # pyright: ignore[reportArgumentType]  # its stubs: bool only
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows, as a row group."""
        self._writer.write_batch(batch)
        crash_point("archive.after_row_group")

    def publish(self, last: int) -> None:
        """Give the file its name, now that it is whole and ends with offset `last`.

        A crash before the renaming leaves a temporary file, which the next owner removes; a crash
        after it leaves a file that counts.

        Raises:
            InvalidSettings: Such a file is there.
        """
        self._writer.close()
        self._sink.close()
        _synchronise(self._temporary)
        crash_point("archive.before_rename")
        source = self._source
        path = file_path(source.folder, source.log, self.day, (source.partition, self.first, last))
        if path.exists():
            raise InvalidSettings(
                f"{path} is there already, and nobody but this worker may make it"
            )
        _make_folder(path.parent)
        self._temporary.rename(path)
        _synchronise(path.parent)
        crash_point("archive.after_rename")

    def discard(self) -> None:
        """Remove it as it is; its records will be read again. Writes nothing, for a full disk."""
        self._writer.is_open = False  # else it writes the file's end when it is freed
        self._sink.close()
        self._temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each known to the disk before the next."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _synchronise(folder.parent)


def _synchronise(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
