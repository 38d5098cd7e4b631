"""Tells whether a file is still the one that was read, without reading it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class FileState(NamedTuple):
    """What changes when a file is written, replaced or linked again; zeros where there is none."""

    device: int = 0
    inode: int = 0
    size_bytes: int = 0
    changed_ns: int = 0


def state_of(path: Path) -> FileState:
    """Return the state of the file that a path leads to now; links are followed.

    >>> state_of(Path("/nowhere"))
    FileState(device=0, inode=0, size_bytes=0, changed_ns=0)
    """
    try:
        found = path.stat()
    except OSError:
        return FileState()
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
