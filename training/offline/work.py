"""The work folder: arrays cut by shard, and files that say which task is done.

A task writes its files, then, atomically, its done file; a second run redoes what has none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Summary = dict[str, Any]
Records = NDArray[np.void]

WORK_FOLDER: Final = ".work"


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file so that it is there whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1, sort_keys=True))
    unfinished.replace(path)


def read_json(path: Path) -> Summary | None:
    """Return a JSON object, None where the file is not there."""
    try:
        found: Summary = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return found


def fresh_folder(path: Path) -> Path:
    """Return an empty folder: what a task that did not end left there is removed."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def write_sharded(path: Path, records: Records, shard: NDArray[np.int64], shards: int) -> None:
    """Write records by shard, in their order inside each.

    Args:
        path: Name without suffix.
        records: Any record type [N].
        shard: int64 [N], 0 to shards - 1.
        shards: How many.
    """
    order = np.argsort(shard, kind="stable")
    np.save(path.with_suffix(".npy"), records[order])
    bounds = np.searchsorted(shard[order], np.arange(shards + 1))
    np.save(path.with_suffix(".bounds.npy"), bounds)


def read_shard(paths: Iterable[Path], shard: int, dtype: np.dtype[np.void]) -> Records:
    """Return the records of one shard from files of `write_sharded`, in the order of the files."""
    found = [np.zeros(0, dtype)]
    for path in paths:
        bounds = np.load(path.with_suffix(".bounds.npy"), mmap_mode="r")
        begin, end = int(bounds[shard]), int(bounds[shard + 1])
        if end > begin:
            records = np.load(path.with_suffix(".npy"), mmap_mode="r")
            found.append(np.array(records[begin:end]))
    return np.concatenate(found)


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write a table as an Arrow file of one batch."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def read_arrow(path: Path) -> pa.Table:
    """Return the table of an Arrow file; its columns stay in the file."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def shard_of(names: NDArray[np.uint64], shards: int) -> NDArray[np.int64]:
    """Return the shard of names of 64 bits, int64 [N]."""
    return (names % np.uint64(shards)).astype(np.int64)
