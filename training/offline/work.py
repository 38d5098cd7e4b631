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
    # A number of few bits is sorted in one pass.
    order = np.argsort(shard.astype(np.min_scalar_type(shards)), kind="stable")
    np.save(path.with_suffix(".npy"), records[order] if shards > 1 else records)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(shard, minlength=shards))])
    np.save(path.with_suffix(".bounds.npy"), bounds)


def read_shard(paths: Iterable[Path], shard: int, dtype: np.dtype[np.void]) -> Records:
    """Return the records of one shard from files of `write_sharded`, in the order of the files."""
    chunks = []
    for path in paths:
        begin, end = np.load(path.with_suffix(".bounds.npy"))[shard : shard + 2].tolist()
        if end > begin:
            chunks.append(np.load(path.with_suffix(".npy"), mmap_mode="r").view(dtype)[begin:end])
    records = np.empty(sum(map(len, chunks)), dtype)
    done = 0
    for chunk in chunks:
        records[done : done + len(chunk)] = chunk
        done += len(chunk)
    return records


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
