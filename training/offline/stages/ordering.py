"""Second stage: all rows are numbered in the order of their arrival, slice by slice of time.

With a log that order is (arrival, partition, offset), where a partition's arrival never falls;
without one (arrival, event time, id, card, row in the source).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.offline.layout import PACKED_ROW, SLICE_ROWS
from training.offline.plan import Plan
from training.offline.stages.reading import out_of_order
from training.offline.work import (
    Records,
    Summary,
    fresh_folder,
    read_arrow,
    shard_of,
    write_arrow,
    write_sharded,
)

_SAMPLE_EVERY: Final = 256


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one run.

    Attributes:
        run: Its path.
        begin: First of them.
        end: The one after the last.
        carried_ms: Arrival that its partition had reached before the run.
    """

    run: Path
    begin: int
    end: int
    carried_ms: int


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of arrival time.

    Attributes:
        number: Of its first row.
        pieces: Where its rows lie.
    """

    number: int
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(piece.end - piece.begin for piece in self.pieces)


def slice_runs(runs: Sequence[Summary], *, is_log: bool) -> list[Slice]:
    """Return slices of at most about `SLICE_ROWS` rows; those that arrived at once stay together.

    Raises:
        InvalidSettings: Runs of a partition do not follow one another.
    """
    carried = _carry(runs) if is_log else [0] * len(runs)
    cuts = _cuts(
        [_arrivals(run, ms)[::_SAMPLE_EVERY] for run, ms in zip(runs, carried, strict=True)]
    )
    pieces: list[list[Piece]] = [[] for _ in range(len(cuts) + 1)]
    for run, carried_ms in zip(runs, carried, strict=True):
        bounds = [0, *np.searchsorted(_arrivals(run, carried_ms), cuts).tolist(), run["rows"]]
        for chunk, (begin, end) in zip(pieces, pairwise(bounds), strict=True):
            if end > begin:
                chunk.append(Piece(Path(run["path"]), begin, end, carried_ms))
    slices, number = [], 0
    for chunk in pieces:
        if chunk:
            slices.append(Slice(number, tuple(chunk)))
            number += slices[-1].rows
    return slices


def _arrivals(run: Summary, carried_ms: int) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.load(Path(run["path"]).with_suffix(".arrival.npy"))
    return np.maximum(found, carried_ms)


def _carry(runs: Sequence[Summary]) -> list[int]:
    """Return what each run's partition had arrived at before it."""
    reached: dict[int, tuple[int, int]] = {}
    carried = []
    for run in runs:
        last, last_ms = reached.get(run["partition"], (-1, 0))
        if run["first"] <= last:
            raise out_of_order(run["source"], last, run["first"])
        carried.append(last_ms)
        reached[run["partition"]] = (run["last"], max(last_ms, run["last_ms"]))
    return carried


def _cuts(samples: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the arrival times at which slices begin, but for the first."""
    ordered = np.sort(np.concatenate([np.zeros(0, np.int64), *samples]))
    each = SLICE_ROWS // _SAMPLE_EVERY
    return np.unique(ordered[each::each])


def number_slice(plan: Plan, part: Slice, name: str) -> Summary:
    """Number the rows of one slice; write them by card shard, and their ids in order."""
    folder = fresh_folder(plan.work / "order" / name)
    rows = _load_rows(part.pieces)
    ids = pa.concat_tables([_load_ids(piece) for piece in part.pieces]).combine_chunks()
    order = _order(rows, ids, is_log=plan.is_log)
    if (np.diff(order) < 0).any():
        rows, ids = rows[order], ids.take(pa.array(order))
    rows["number"] = part.number + np.arange(len(rows))
    write_sharded(folder / "rows", rows, shard_of(rows["card"], plan.shards), plan.shards)
    write_arrow(folder / "ids.arrow", ids)
    return {"number": part.number, "rows": len(rows)}


def _load_rows(pieces: Sequence[Piece]) -> Records:
    rows = np.empty(sum(piece.end - piece.begin for piece in pieces), PACKED_ROW)
    begin = 0
    for piece in pieces:
        run = np.load(piece.run.with_suffix(".npy"), mmap_mode="r").view(PACKED_ROW)
        chunk = rows[begin : begin + piece.end - piece.begin]
        chunk[:] = run[piece.begin : piece.end]
        chunk["arrival_ms"] = np.maximum(chunk["arrival_ms"], piece.carried_ms)
        begin += len(chunk)
    return rows


def _load_ids(piece: Piece) -> pa.Table:
    ids = read_arrow(piece.run.with_suffix(".arrow"))
    return ids.slice(piece.begin, piece.end - piece.begin)


def _order(rows: Records, ids: pa.Table, *, is_log: bool) -> NDArray[np.int64]:
    if is_log:
        # Most slices are in order already; columns on their own are sorted quicker.
        keys = [np.ascontiguousarray(rows[key]) for key in ("second", "first", "arrival_ms")]
        return np.lexsort(keys)
    names = ("arrival_ms", "first", "transaction_id", "card_token", "second")
    columns = {key: pa.array(rows[key]) for key in ("arrival_ms", "first", "second")}
    table = pa.table(columns | {name: ids[name] for name in ids.column_names})
    found = pc.sort_indices(table, sort_keys=[(key, "ascending") for key in names])
    order: NDArray[np.int64] = found.to_numpy().astype(np.int64)
    return order
