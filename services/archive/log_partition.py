"""One partition of one log in the archive: its folder, its lock, and the files that it has."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fraudstream.archive.files import WORK_FOLDER, ArchiveFile, partition_files
from services.archive.streams import Stream


@dataclass(frozen=True, slots=True)
class LogPartition:
    """Where the records of one partition go.

    Attributes:
        root: The archive.
        stream: Which topic.
        log: Its topic id, hexadecimal.
        partition: Which partition.
    """

    root: Path
    stream: Stream
    log: str
    partition: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.stream.noun}/{self.log}/{self.partition}"

    @property
    def folder(self) -> Path:
        """Folder of the noun."""
        return self.root / self.stream.noun

    def temporary_path(self, first: int) -> Path:
        """Return where a file is written before it is whole."""
        return self._work_folder / f"{self.partition}-{first}.tmp"

    def lock(self) -> IO[bytes] | None:
        """Take the partition's lock; None where another worker holds it.

        The kernel holds it for this process until the file is closed or the process ends, however
        it ends. So a worker that lost the partition in a rebalance and does not know it yet keeps
        its successor waiting, and the two never write the same offsets.
        """
        self._work_folder.mkdir(parents=True, exist_ok=True)
        file = (self._work_folder / f"{self.partition}.lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def remove_leftovers(self) -> None:
        """Remove what a worker that crashed had not finished. Needs the lock."""
        for leftover in self._work_folder.glob(f"{self.partition}-*.tmp"):
            leftover.unlink()

    def files(self) -> list[ArchiveFile]:
        """Return the partition's files in order."""
        return partition_files(self.folder, self.log, self.partition)

    @property
    def _work_folder(self) -> Path:
        return self.root / WORK_FOLDER / self.stream.noun / self.log
