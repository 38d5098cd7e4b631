"""First stage: a unit of the source becomes runs of packed rows, labels and digests by card shard.

A run holds rows of one log partition (or of no log) in the order of their arrival.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraudstream.errors import InvalidSettings
from training.offline.layout import DECIDED, LABEL
from training.offline.plan import KAFKA, Content, Plan, Unit
from training.offline.source import kafka_log
from training.offline.source.checks import Columns
from training.offline.source.files import read_file
from training.offline.source.packing import PackedRows, pack_decisions, pack_labels, pack_rows
from training.offline.work import (
    Records,
    Summary,
    fresh_folder,
    shard_of,
    write_arrow,
    write_sharded,
)


def read_unit(plan: Plan, unit: Unit, name: str) -> Summary:
    """Read one unit into `read/<name>`; return its runs and counts.

    Raises:
        InvalidSettings: A value breaks the contract.
        BrokerUnavailable: The broker does not answer.
    """
    folder = fresh_folder(plan.work / "read" / name)
    unreadable = kafka_log.Unreadable()
    if plan.request.source == KAFKA:
        chunks = kafka_log.read_range(unit, unreadable)
    else:
        chunks = read_file(unit, plan.request.format, plan.request.segments)
    if unit.content is Content.ROWS:
        refused: list[int] = []
        runs = list(_write_runs(plan, unit, _watched(plan, chunks, refused), folder))
        return {"runs": runs, "unreadable": unreadable.count, "refused": sum(refused)}
    if unit.content is Content.LABELS:
        packed = [np.zeros(0, LABEL), *(pack_labels(chunk, unit.log) for chunk in chunks)]
    else:
        packed = [np.zeros(0, DECIDED), *(pack_decisions(chunk, unit.log) for chunk in chunks)]
    records = np.concatenate(packed)
    path = folder / unit.content.value
    write_sharded(path, records, shard_of(records["card"], plan.shards), plan.shards)
    summary = {"records": len(records), "unreadable": unreadable.count}
    if unit.content is Content.LABELS:
        summary["last_ms"] = int(records["arrival_ms"].max(initial=0))
    return summary


def _write_runs(
    plan: Plan, unit: Unit, chunks: Iterator[Columns], folder: Path
) -> Iterator[Summary]:
    for columns in chunks:
        packed = pack_rows(columns, plan, unit.log)
        for number, index in enumerate(_indices_of_runs(packed.rows, is_log=plan.is_log)):
            run = packed.take(index)
            if plan.is_log:
                _follow_log(run.rows, unit.name)
            yield _write_run(folder / f"{columns.first:012}-{number:04}", run, unit.name)


def _watched(plan: Plan, chunks: Iterator[Columns], refused: list[int]) -> Iterator[Columns]:
    """Yield the chunks; where refused rows are dropped, add their numbers to `refused`."""
    if not plan.request.is_dropping:
        yield from chunks
        return
    for chunk in chunks:
        dropped = np.zeros(len(chunk), np.bool_)
        yield replace(chunk, dropped=dropped)
        refused.append(int(dropped.sum()))


def _indices_of_runs(rows: Records, *, is_log: bool) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of each run's rows, in order of arrival."""
    if is_log:
        for partition in np.unique(rows["first"]):
            yield np.flatnonzero(rows["first"] == partition)
    elif len(rows):
        yield np.argsort(rows["arrival_ms"], kind="stable")


def _follow_log(rows: Records, name: str) -> None:
    """Check the order of one partition's rows; its log time never falls, whatever clocks said."""
    falls = np.flatnonzero(np.diff(rows["second"]) <= 0)
    if len(falls):
        earlier, later = rows["second"][falls[0] : falls[0] + 2].tolist()
        raise out_of_order(name, earlier, later)
    rows["arrival_ms"] = np.maximum.accumulate(rows["arrival_ms"])


def _write_run(path: Path, run: PackedRows, source: str) -> Summary:
    rows = run.rows
    np.save(path.with_suffix(".npy"), rows)
    np.save(path.with_suffix(".arrival.npy"), rows["arrival_ms"])
    write_arrow(path.with_suffix(".arrow"), pa.table(run.ids))
    return {
        "path": str(path),
        "source": source,
        "partition": int(rows["first"][0]),
        "first": int(rows["second"][0]),
        "last": int(rows["second"][-1]),
        "last_ms": int(rows["arrival_ms"][-1]),
        "rows": len(rows),
    }


def out_of_order(name: str, earlier: int, later: int) -> InvalidSettings:
    """Return the error of rows that do not follow their log."""
    return InvalidSettings(
        f"{name}: expected the rows of each log partition in order of log_offset (the Handbook's in"
        f" order of TRANSACTION_ID), each once; found {later} after {earlier}"
    )
