"""Names of the archive's files, and what they say: which offsets of which log are kept where.

`ROOT/<noun>/log=<topic id>/date=<day>/<partition>-<first>-<last>.parquet`

- One file holds all rows of [first, last] of one partition of one log, in order. A topic made again
  has another id, so its offsets never meet the old ones: its files lie beside them.
- The day is that of the file's first row (UTC, by the record's timestamp); a row of a later day
  begins another file. So nothing in a file is later than its day, and a row that came out of order
  around midnight may be earlier: who wants whole days of arrival takes one day more and filters.
- Only whole files have such names. A crash leaves nothing but files under `ROOT/.work/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings

WORK_FOLDER: Final = ".work"
_NAME: Final = re.compile(r"([0-9]+)-([0-9]+)-([0-9]+)\.parquet")
_LOG: Final = re.compile(r"log=([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file, as its name says.

    Attributes:
        path: Where it lies.
        log: Topic id, hexadecimal: which incarnation of the topic.
        day: Its folder's day, UTC.
        partition: Partition of the topic.
        first: Offset that it begins with.
        last: Offset that it ends with; offsets without a readable record count too.
    """

    path: Path
    log: str
    day: date
    partition: int
    first: int
    last: int


def file_path(folder: Path, log: str, day: date, index: tuple[int, int, int]) -> Path:
    """Return the path of a file.

    Args:
        folder: Of the noun: `ROOT/<noun>`.
        log: Topic id, hexadecimal.
        day: UTC day of its first row.
        index: Partition, first and last offset.

    >>> file_path(Path("labels"), "0a", date(2026, 1, 31), (2, 0, 99)).as_posix()
    'labels/log=0a/date=2026-01-31/0002-000000000000-000000000099.parquet'
    """
    partition, first, last = index
    name = f"{partition:04}-{first:012}-{last:012}.parquet"
    return folder / f"log={log}" / f"date={day.isoformat()}" / name


def parse_path(path: Path) -> ArchiveFile:
    """Return what a file's path says.

    Raises:
        InvalidSettings: It is no path of an archive.

    >>> path = file_path(Path("labels"), "0a", date(2026, 1, 31), (2, 0, 99))
    >>> parse_path(path).last
    99
    """
    name, log = _NAME.fullmatch(path.name), _LOG.fullmatch(path.parent.parent.name)
    try:
        day = date.fromisoformat(path.parent.name.removeprefix("date="))
    except ValueError:
        day = None
    if name is None or log is None or day is None:
        msg = (
            f"{path} is no archive file: expected"
            " <noun>/log=<topic id>/date=<day>/<partition>-<first>-<last>.parquet"
        )
        raise InvalidSettings(msg)
    partition, first, last = (int(number) for number in name.groups())
    return ArchiveFile(path, log[1], day, partition, first, last)


def list_files(
    folder: Path, from_day: date = date.min, to_day: date = date.max
) -> list[ArchiveFile]:
    """Return the files of a noun whose day is in [from_day, to_day), in the order of the log.

    That order is (log, partition, first offset); of two logs the one with the earlier day is first.
    A folder that is not there has no files.

    Args:
        folder: `ROOT/<noun>`, such as `var/archive/decisions`.
        from_day: First day.
        to_day: The day after the last.

    Raises:
        InvalidSettings: A Parquet file has no archive name.

    >>> list_files(Path("nowhere"))
    []
    """
    files = [parse_path(path) for path in folder.glob("*/*/*.parquet")]
    begun: dict[str, date] = {}
    for file in files:
        begun[file.log] = min(file.day, begun.get(file.log, file.day))
    kept = [file for file in files if from_day <= file.day < to_day]
    return sorted(kept, key=lambda f: (begun[f.log], f.log, f.partition, f.first, f.last))


def partition_files(folder: Path, log: str, partition: int) -> list[ArchiveFile]:
    """Return the files of one partition of one log, by first offset.

    >>> partition_files(Path("nowhere"), "0a", 0)
    []
    """
    found = folder.glob(f"log={log}/date=*/{partition:04}-*.parquet")
    return sorted(map(parse_path, found), key=lambda file: (file.first, file.last))


def check_contiguous(files: Sequence[ArchiveFile]) -> None:
    """Check that each partition's files follow one another without a hole and without an overlap.

    Args:
        files: In the order of `list_files`.

    Raises:
        InvalidSettings: They do not; the message names the first two files and what lies between.

    >>> check_contiguous([])
    """
    for earlier, later in _neighbours(files):
        _refuse_overlap(earlier, later)
        if later.first > earlier.last + 1:
            msg = (
                f"offsets {earlier.last + 1} to {later.first - 1} are missing between"
                f" {earlier.path} and {later.path}: restore the file, or leave out what is before"
            )
            raise InvalidSettings(msg)


def next_offset(files: Sequence[ArchiveFile]) -> int | None:
    """Return the offset after the last that the files of one partition hold; None without files.

    Args:
        files: Of one partition of one log, in the order of `list_files`.

    Raises:
        InvalidSettings: Two of them overlap.

    >>> next_offset([]) is None
    True
    """
    for earlier, later in _neighbours(files):
        _refuse_overlap(earlier, later)
    return files[-1].last + 1 if files else None


def missing_offsets(files: Sequence[ArchiveFile]) -> int:
    """Return how many offsets lie in holes between the files of a partition.

    >>> missing_offsets([])
    0
    """
    return sum(max(0, later.first - earlier.last - 1) for earlier, later in _neighbours(files))


def _neighbours(files: Iterable[ArchiveFile]) -> list[tuple[ArchiveFile, ArchiveFile]]:
    """Return each file of a partition with the one after it."""
    found: list[tuple[ArchiveFile, ArchiveFile]] = []
    for _, chunk in groupby(files, key=lambda file: (file.log, file.partition)):
        found += pairwise(chunk)
    return found


def _refuse_overlap(earlier: ArchiveFile, later: ArchiveFile) -> None:
    if later.first <= earlier.last:
        msg = (
            f"{earlier.path} and {later.path} overlap: both hold offset {later.first}."
            " One of them was put there by hand: take it away"
        )
        raise InvalidSettings(msg)
