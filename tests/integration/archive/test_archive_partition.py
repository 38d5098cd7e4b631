"""The archive of one partition on a real disk: when files begin and end, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fraudstream.archive.files import ArchiveFile, check_contiguous, list_files
from fraudstream.errors import BrokerUnavailable, InvalidSettings, LogReplaced
from fraudstream.topics import ACCEPTED
from services.archive.log_partition import LogPartition
from services.archive.partition_archive import FileRules, PartitionArchive
from services.archive.streams import STREAMS
from tests.worlds.archive_records import accepted, archived, decision

LOG = "ab" * 16
DAY_MS = 86_400_000
# 2026-01-31T12:00:00Z
NOON_MS = 1_769_860_800_000


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a consumer gives it."""

    offset: int
    timestamp: int = NOON_MS
    value: bytes | None = None
    partition: int = 4
    topic: str = ACCEPTED.name


def row(offset: int, timestamp: int = NOON_MS) -> Record:
    """Return a record with an accepted transaction."""
    return Record(offset, timestamp, accepted(offset).SerializeToString())


@dataclass
class Shelf:
    """One partition's archive in a folder of the test, its clock and its log."""

    root: Path
    clock_s: float = 0.0
    fault: Exception | None = None
    opened: list[PartitionArchive] = field(default_factory=list)

    @property
    def source(self) -> LogPartition:
        """Where it lies."""
        return LogPartition(self.root, STREAMS[0], LOG, 4)

    def open(self, max_rows: int = 1_000) -> PartitionArchive:
        """Take the partition over."""
        rules = FileRules(max_rows, 60.0, self.confirm, lambda: self.clock_s)
        archive = PartitionArchive.open(self.source, rules)
        assert archive is not None
        self.opened.append(archive)
        return archive

    def confirm(self) -> None:
        """Say that the log is still the same, unless the test says otherwise."""
        if self.fault is not None:
            raise self.fault

    def files(self) -> list[ArchiveFile]:
        """Return what is there."""
        return list_files(self.root / "accepted")

    def ranges(self) -> list[tuple[int, int]]:
        """Return the offsets of each file."""
        return [(file.first, file.last) for file in self.files()]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """An archive with nothing in it."""
    shelf = Shelf(tmp_path)
    yield shelf
    for archive in shelf.opened:
        archive.release()


def test_rows_are_there_when_the_file_is_finished_and_not_before(shelf: Shelf) -> None:
    """A reader sees whole files only."""
    archive = shelf.open()
    archive.take([row(0), row(1)])
    archive.flush()
    before = shelf.files()
    archive.publish()

    assert before == []
    assert archived(shelf.root, "accepted")["log_offset"].to_pylist() == [0, 1]


def test_a_file_is_finished_by_its_number_of_records(shelf: Shelf) -> None:
    """Also amid a poll."""
    archive = shelf.open(max_rows=2)
    archive.take([row(0), row(1), row(2), row(3), row(4)])
    archive.publish()

    assert shelf.ranges() == [(0, 1), (2, 3), (4, 4)]


def test_a_file_is_due_by_its_age(shelf: Shelf) -> None:
    """Counted from its first record; without a record nothing is due."""
    archive = shelf.open()
    is_due = [archive.is_due]
    archive.take([row(0)])
    for clock_s in (59.9, 60.0):
        shelf.clock_s = clock_s
        is_due.append(archive.is_due)

    assert is_due == [False, False, True]


def test_a_later_day_begins_another_file(shelf: Shelf) -> None:
    """A file lies under the day of its first record, and nothing in it is later."""
    archive = shelf.open()
    archive.take([row(0), row(1, NOON_MS + DAY_MS)])
    archive.publish()

    assert [(file.day.isoformat(), file.first) for file in shelf.files()] == [
        ("2026-01-31", 0),
        ("2026-02-01", 1),
    ]


def test_records_out_of_order_around_midnight_make_no_file_each(shelf: Shelf) -> None:
    """A record of the day before stays in the file that the new day began."""
    midnight = NOON_MS + DAY_MS // 2
    archive = shelf.open()
    archive.take([row(offset, midnight + (-5, 5)[offset % 2]) for offset in range(100)])
    archive.publish()

    assert shelf.ranges() == [(0, 0), (1, 99)]


def test_a_successor_goes_on_where_the_files_end(shelf: Shelf) -> None:
    """What was read and not finished is read again; what was finished is passed over."""
    first = shelf.open()
    first.take([row(0), row(1)])
    first.publish()
    first.take([row(2)])
    first.release()
    second = shelf.open()
    position = second.position
    second.take([row(offset) for offset in range(4)])
    second.publish()

    assert position == 2
    assert archived(shelf.root, "accepted")["log_offset"].to_pylist() == [0, 1, 2, 3]
    check_contiguous(shelf.files())


def test_a_held_partition_cannot_be_taken_over(shelf: Shelf) -> None:
    """Until it is released: a worker that lost it in a rebalance may not know yet."""
    rules = FileRules(1_000, 60.0, shelf.confirm, lambda: 0.0)
    holder = shelf.open()
    while_held = PartitionArchive.open(shelf.source, rules)
    holder.release()
    after = PartitionArchive.open(shelf.source, rules)

    assert while_held is None
    assert after is not None
    after.release()


def test_what_a_crash_left_behind_is_removed(shelf: Shelf) -> None:
    """Only this partition's: another worker may be writing the next one's."""
    archive = shelf.open()
    archive.release()
    mine, other = (
        shelf.source.temporary_path(0),
        shelf.source.temporary_path(0).with_name("5-0.tmp"),
    )
    mine.write_bytes(b"half")
    other.write_bytes(b"half")
    shelf.open()

    assert (mine.exists(), other.exists()) == (False, True)


def test_an_unreadable_record_is_left_out_and_its_offset_is_covered(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    """No content, other bytes, no token, a card number: logged by its place, the rest is kept."""
    with_pan = accepted(3)
    with_pan.transaction.pan = "0" * 16
    bad = [None, b"\xff\xff", b"", with_pan.SerializeToString()]
    archive = shelf.open()
    archive.take([Record(offset, value=value) for offset, value in enumerate(bad)])
    archive.take([row(4)])
    archive.publish()

    assert archived(shelf.root, "accepted")["log_offset"].to_pylist() == [4]
    assert shelf.ranges() == [(0, 4)]
    assert [
        f"partition 4, offset {offset} is passed over" in caplog.text for offset in range(5)
    ] == [
        *([True] * 4),
        False,
    ]


def test_a_decision_with_a_card_number_is_left_out() -> None:
    """Its message would be kept whole."""
    bad, good = decision(1), decision(2)
    bad.transaction.pan = "0" * 16
    records = [Record(n, value=d.SerializeToString()) for n, d in enumerate((bad, good))]

    batch = STREAMS[1].rows_of(4, records)

    assert batch["log_offset"].to_pylist() == [1]


def test_what_the_log_lost_is_a_hole_between_files(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    """No file hides it: what was read before ends a file, and every reader is told."""
    archive = shelf.open()
    archive.take([row(0), row(1)])
    archive.begin_at(5)
    archive.take([row(5)])
    archive.publish()

    assert shelf.ranges() == [(0, 1), (5, 5)]
    assert "lost 3 offsets before 5" in caplog.text
    with pytest.raises(InvalidSettings, match="offsets 2 to 4 are missing"):
        check_contiguous(shelf.files())


def test_overlapping_files_are_refused(shelf: Shelf) -> None:
    """Somebody copied one: nobody knows which rows are there twice."""
    archive = shelf.open()
    archive.take([row(0), row(1)])
    archive.publish()
    archive.release()
    (there,) = shelf.files()
    there.path.with_name("0004-000000000001-000000000009.parquet").touch()

    with pytest.raises(InvalidSettings, match="overlap: both hold offset 1"):
        shelf.open()


@pytest.mark.parametrize("fault", [BrokerUnavailable("away"), LogReplaced("made again")])
def test_a_file_waits_until_its_log_is_confirmed(shelf: Shelf, fault: Exception) -> None:
    """Its rows may be another log's; confirmed later, they are published as they are."""
    archive = shelf.open()
    archive.take([row(0)])
    shelf.fault = fault
    with pytest.raises(type(fault)):
        archive.publish()
    before = shelf.files()
    shelf.fault = None
    archive.publish()

    assert before == []
    assert shelf.ranges() == [(0, 0)]


def test_a_log_that_ends_before_its_files_is_refused(shelf: Shelf) -> None:
    """It lost records: those after them would be passed over as known."""
    archive = shelf.open()
    archive.take([row(0), row(1)])
    archive.check_end(2)

    with pytest.raises(InvalidSettings, match="holds offsets below 2, but the log ends at 1"):
        archive.check_end(1)


def test_row_groups_are_written_while_the_file_grows(shelf: Shelf) -> None:
    """Memory holds what waits for the next group, not the file."""
    archive = shelf.open()
    for offset in range(3):
        archive.take([row(offset)])
        archive.flush()
    waiting = archive.pending_bytes
    archive.publish()

    assert waiting == 0
    (file,) = shelf.files()
    assert pq.ParquetFile(file.path).num_row_groups == 3
