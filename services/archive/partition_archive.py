"""The archive of one partition: from the position that its files tell, row by row, file by file.

Held by one worker at a time, under the partition's lock. Memory: the records that wait for the
next row group, at most `GROUP_ROWS` of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import IO, Final, Self

from fraudstream.archive.files import missing_offsets, next_offset
from fraudstream.broker.messages import StampedRecord
from fraudstream.errors import InvalidSettings
from fraudstream.telemetry.metrics import ARCHIVE_FILES, ARCHIVE_LOST, ARCHIVE_ROWS
from services.archive.fork_watch import ForkWatch
from services.archive.log_partition import LogPartition
from services.archive.open_file import OpenFile

_LOG: Final = logging.getLogger(__name__)
# Large enough for columns to compress well, small enough for a reader's memory.
GROUP_ROWS: Final = 8_192
# Midnight of the last day that a date can name.
_LAST_MS: Final = 253_402_214_400_000


@dataclass(frozen=True, slots=True)
class FileRules:
    """When a file is finished, and what is asked before.

    Attributes:
        max_rows: Records that it spans.
        max_age_s: Seconds after its first record.
        confirm: Raises where the log is not the one that was opened.
        clock_s: Seconds of a clock that never goes back.
    """

    max_rows: int
    max_age_s: float
    confirm: Callable[[], None]
    clock_s: Callable[[], float]


class PartitionArchive:
    """Takes the records of one partition in order, and keeps each once.

    Args:
        source: Whose records.
        lock: The partition's lock, held.
        position: The first offset that no file holds; None where there is no file.
        rules: When a file is finished.
        watch: Looks for forks; None where the records are no decisions.

    Attributes:
        source: Whose records.
        position: The offset to read next.
        published: The offset after the last file; None where there is none.
        pending_bytes: Bytes of the records that wait for the next row group.
    """

    def __init__(
        self,
        source: LogPartition,
        lock: IO[bytes],
        position: int | None,
        rules: FileRules,
        watch: ForkWatch | None = None,
    ) -> None:
        self.source = source
        self.position = position
        self.published = position
        self.pending_bytes = 0
        self._lock = lock
        self._rules = rules
        self._watch = watch
        self._file: OpenFile | None = None
        self._pending: list[StampedRecord] = []
        self._rows = 0
        self._due_s = 0.0

    @classmethod
    def open(
        cls, source: LogPartition, rules: FileRules, watch: ForkWatch | None = None
    ) -> Self | None:
        """Take a partition over; None where another worker has it still.

        Raises:
            InvalidSettings: Its files overlap.
        """
        lock = source.lock()
        if lock is None:
            return None
        source.remove_leftovers()
        files = source.files()
        lost = missing_offsets(files)
        if lost:
            _LOG.error("%s lacks %d offsets between its files", source.name, lost)
        if watch is not None:
            watch.read_back(source.name, files)
        return cls(source, lock, next_offset(files), rules, watch)

    @property
    def is_empty(self) -> bool:
        """Whether every record that was taken is in a finished file."""
        return self._file is None

    @property
    def is_due(self) -> bool:
        """Whether the file that is being written is old enough."""
        return self._file is not None and self._rules.clock_s() >= self._due_s

    def begin_at(self, offset: int) -> None:
        """Go on at an offset if the position is before it: the log has none there any more.

        What lies between is lost, and counted. The file that is being written ends before the hole,
        so that no file hides one. Without a position, the offset is where the archive begins.
        """
        if self.position is not None and self.position >= offset:
            return
        if self.position is not None:
            self.publish()
            lost = offset - self.position
            ARCHIVE_LOST.labels(self.source.stream.noun).inc(lost)
            _LOG.error("%s: the log lost %d offsets before %d", self.source.name, lost, offset)
        self.position = offset

    def check_end(self, end: int) -> None:
        """Check that the log reaches as far as the files do; `end` is the offset after its last.

        Raises:
            LogReplaced: It does not, because it is another.
            InvalidSettings: It does not, though it is the same: its offsets were given twice.
        """
        if self.position is None or self.position <= end:
            return
        self._rules.confirm()
        msg = (
            f"{self.source.name}: the archive holds offsets below {self.position}, but the log ends"
            f" at {end}: it lost records, and gives their offsets to others. Make the topic again,"
            " so that it has another id, or set another FRAUD_ARCHIVE_ROOT"
        )
        raise InvalidSettings(msg)

    def take(self, records: Sequence[StampedRecord]) -> None:
        """Take records in order, from the position on; those below it are known already.

        Raises:
            BrokerUnavailable: A file could not be finished; `position` says what was taken.
            LogReplaced: These are the records of another log.
        """
        for record in records:
            if self.position is None or record.offset >= self.position:
                self._take_one(record)

    def flush(self) -> None:
        """Write the records that wait as a row group."""
        if self._file is None or not self._pending:
            return
        stream = self.source.stream
        batch = stream.rows_of(self.source.partition, self._pending)
        if self._watch is not None:
            self._watch.look(self.source.name, batch)
        self._file.write(batch)
        ARCHIVE_ROWS.labels(stream.noun, "written").inc(batch.num_rows)
        ARCHIVE_ROWS.labels(stream.noun, "unreadable").inc(len(self._pending) - batch.num_rows)
        self._pending = []
        self.pending_bytes = 0

    def publish(self) -> None:
        """Finish the file that is being written, if there is one.

        Raises:
            BrokerUnavailable: It is not known whether the log is still the same; try again.
            LogReplaced: It is another.
        """
        if self._file is None or self.position is None:
            return
        self.flush()
        self._rules.confirm()
        first, last = self._file.first, self.position - 1
        self._file.publish(last)
        self._file = None
        self.published = self.position
        ARCHIVE_FILES.labels(self.source.stream.noun).inc()
        _LOG.info("%s: finished offsets %d to %d", self.source.name, first, last)

    def release(self) -> None:
        """Leave the partition to another worker; what is not in a file yet will be read again."""
        if self._file is not None:
            self._file.discard()
            self._file = None
        self._lock.close()

    def _take_one(self, record: StampedRecord) -> None:
        day = _day_of(record.timestamp)
        if self._file is not None and (day > self._file.day or self._rows >= self._rules.max_rows):
            self.publish()
        if self._file is None:
            self._begin(record, day)
        self._pending.append(record)
        self.pending_bytes += len(record.value or b"")
        self._rows += 1
        self.position = record.offset + 1
        if len(self._pending) >= GROUP_ROWS:
            self.flush()

    def _begin(self, record: StampedRecord, day: date) -> None:
        # Offsets without a record (a transaction's marker) belong to the file after them.
        first = record.offset if self.position is None else self.position
        self._file = OpenFile(self.source, first, day)
        self._rows = 0
        self._due_s = self._rules.clock_s() + self._rules.max_age_s


def _day_of(time_ms: int) -> date:
    """Return the UTC day of a time; a stamp that is no time belongs to the first or last day."""
    return datetime.fromtimestamp(min(max(time_ms, 0), _LAST_MS) / 1_000, UTC).date()
