"""File names of the archive: what they say, in which order they are read, holes and overlaps."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from fraudstream.archive.files import (
    ArchiveFile,
    check_contiguous,
    file_path,
    list_files,
    missing_offsets,
    next_offset,
    parse_path,
    partition_files,
)
from fraudstream.errors import InvalidSettings

DAY, LATER_DAY = date(2026, 1, 31), date(2026, 2, 1)


def at(first: int, last: int, partition: int = 0, log: str = "aa", day: date = DAY) -> ArchiveFile:
    """Return a file that need not be there."""
    return parse_path(file_path(Path("labels"), log, day, (partition, first, last)))


def touch(folder: Path, file: ArchiveFile) -> ArchiveFile:
    """Make an empty file of that name in a folder."""
    place = (file.partition, file.first, file.last)
    path = file_path(folder, file.log, file.day, place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return parse_path(path)


def test_a_path_says_what_the_file_holds() -> None:
    """Log, day, partition and offsets come back as they went in, whatever their size."""
    path = file_path(Path("root/labels"), "0f", DAY, (12_345, 7, 10**13))

    assert parse_path(path) == ArchiveFile(path, "0f", DAY, 12_345, 7, 10**13)


@pytest.mark.parametrize(
    "path",
    [
        "labels/log=aa/date=2026-01-31/part-0.parquet",
        "labels/log=aa/date=2026-13-31/0-0-1.parquet",
        "labels/date=2026-01-31/0-0-1.parquet",
    ],
)
def test_a_foreign_path_is_refused(path: str) -> None:
    """A file that somebody laid there must not be taken for archived rows."""
    with pytest.raises(InvalidSettings, match="is no archive file: expected"):
        parse_path(Path(path))


def test_files_are_listed_in_the_order_of_the_log(tmp_path: Path) -> None:
    """By log, the elder first; then by partition, then by first offset, whatever the day."""
    wanted = [
        touch(tmp_path, at(0, 9, log="bb")),
        touch(tmp_path, at(10, 19, log="bb", day=LATER_DAY)),
        touch(tmp_path, at(0, 4, partition=1, log="bb")),
        touch(tmp_path, at(0, 9, log="aa", day=LATER_DAY)),
    ]

    assert list_files(tmp_path) == wanted


def test_days_are_listed_from_the_first_to_before_the_last(tmp_path: Path) -> None:
    """The interval is half open, so that two neighbouring ones share nothing."""
    early, late = touch(tmp_path, at(0, 9)), touch(tmp_path, at(10, 19, day=LATER_DAY))

    assert list_files(tmp_path, to_day=LATER_DAY) == [early]
    assert list_files(tmp_path, from_day=LATER_DAY) == [late]


def test_files_of_one_partition_are_its_own(tmp_path: Path) -> None:
    """Partition 1 is not partition 11, and another log's partition 1 is another."""
    wanted = [touch(tmp_path, at(0, 9, partition=1)), touch(tmp_path, at(10, 12, partition=1))]
    touch(tmp_path, at(0, 9, partition=11))
    touch(tmp_path, at(13, 20, partition=1, log="bb"))

    assert partition_files(tmp_path, "aa", 1) == wanted


def test_the_position_is_after_the_last_file() -> None:
    """Whatever lies before: a hole is not filled, it is told."""
    files = [at(5, 9), at(12, 19)]

    assert next_offset(files) == 20
    assert missing_offsets(files) == 2


def test_contiguous_files_pass() -> None:
    """Each partition and each log begins where it begins."""
    check_contiguous([at(5, 9), at(10, 19), at(0, 3, partition=1), at(0, 9, log="bb")])


def test_a_hole_is_named() -> None:
    """With the offsets that are missing and the files around them."""
    with pytest.raises(InvalidSettings, match=r"offsets 10 to 11 are missing between .*0009.*0019"):
        check_contiguous([at(5, 9), at(12, 19)])


@pytest.mark.parametrize("check", [check_contiguous, next_offset])
@pytest.mark.parametrize("later", [at(9, 19), at(5, 19), at(6, 7)])
def test_an_overlap_is_refused(later: ArchiveFile, check: object) -> None:
    """Rows that are there twice would be learned twice: no reader and no writer goes on."""
    assert callable(check)

    with pytest.raises(InvalidSettings, match=r"overlap: both hold offset"):
        check(sorted([at(5, 9), later], key=lambda file: (file.first, file.last)))
