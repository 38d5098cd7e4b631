"""Last stage: parts of the training set, in order, from what the card and entity shards left."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fraudstream.archive.columns import ENUM_COLUMNS
from fraudstream.features.catalogue import (
    FEATURE_NAMES,
    SHARED_ENTITIES,
)
from training.offline.layout import OUTCOME, PART_ROWS, RANGE_ROWS
from training.offline.parts import (
    ID_COLUMNS,
    feature_columns,
    part_schema,
    segment_column,
    sequence_column,
    write_parquet,
)
from training.offline.plan import Plan
from training.offline.stages.cards import vector_indices
from training.offline.work import Records, Summary, read_arrow

_NAMES: Final = ENUM_COLUMNS["disposition"]
_DISPOSITIONS: Final = [_NAMES.get(number) for number in range(max(_NAMES) + 1)]


@dataclass(frozen=True, slots=True)
class PartRows:
    """Row numbers of one part: [begin, end), and how many of them are wanted."""

    begin: int
    end: int
    wanted: int


def cut_parts(ranges: Mapping[int, int]) -> list[PartRows]:
    """Return parts of about `PART_ROWS` wanted rows.

    Args:
        ranges: How many wanted rows each range of `RANGE_ROWS` row numbers has.

    >>> cut_parts({3: 5})
    [PartRows(begin=24576, end=32768, wanted=5)]
    """
    parts: list[PartRows] = []
    held, begin, end = 0, 0, 0
    for number in sorted(ranges):
        if held and held + ranges[number] > PART_ROWS:
            parts.append(PartRows(begin, end, held))
            held = 0
        if not held:
            begin = number * RANGE_ROWS
        held, end = held + ranges[number], (number + 1) * RANGE_ROWS
    return [*parts, PartRows(begin, end, held)] if held else parts


def write_part(
    plan: Plan, rows: PartRows, ids: Sequence[tuple[int, int, str]], name: str
) -> Summary:
    """Write one part, whole or not at all.

    Args:
        plan: The plan.
        rows: Which rows.
        ids: First number, rows and file of the ids of each slice.
        name: Of the part's file.

    Returns:
        Its rows and SHA-256.
    """
    chunks = [
        chunk for s in range(plan.shards) if (chunk := _CardPart.of(plan.work, s, rows)) is not None
    ]
    numbers = np.sort(np.concatenate([chunk.outcomes["number"] for chunk in chunks]))
    outcomes = np.empty(len(numbers), OUTCOME)
    vectors = np.empty((len(numbers), len(FEATURE_NAMES)), np.float32)
    sequences = np.empty((len(numbers), *chunks[0].sequences.shape[1:]), np.float32)
    for chunk in chunks:
        row = np.searchsorted(numbers, chunk.outcomes["number"])
        outcomes[row] = chunk.outcomes
        vectors[row], sequences[row] = chunk.vectors, chunk.sequences
    columns = feature_columns(vectors)
    _add_shared(plan, numbers, columns)
    names = _ids_of(numbers, ids)
    segments = plan.request.segments
    table = pa.Table.from_arrays(
        [
            *(names[name] for name in ID_COLUMNS),
            *_outcome_columns(outcomes),
            *map(pa.array, columns),
            sequence_column(sequences),
            *(names[segment_column(name)] for name in segments),
        ],
        schema=part_schema(plan.request.steps, segments),
    )
    return {"name": name, "rows": len(outcomes), "sha256": _write(plan.folder / name, table)}


def _write(path: Path, table: pa.Table) -> str:
    unfinished = path.with_suffix(".unfinished")
    write_parquet(unfinished, table)
    with unfinished.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return digest


@dataclass(frozen=True, slots=True)
class _CardPart:
    """Rows of a part that lie in one card shard.

    Attributes:
        outcomes: `OUTCOME` [n] in order.
        vectors: float32 [n, F].
        sequences: float32 [n, S, C].
    """

    outcomes: Records
    vectors: NDArray[np.float32]
    sequences: NDArray[np.float32]

    @classmethod
    def of(cls, work: Path, shard: int, rows: PartRows) -> _CardPart | None:
        folder = work / "cards" / f"{shard:05}"
        outcomes = np.load(folder / "outcomes.npy", mmap_mode="r").view(OUTCOME)
        begin, end = np.searchsorted(outcomes["number"], (rows.begin, rows.end)).tolist()
        if begin == end:
            return None
        return cls(
            outcomes[begin:end],
            np.load(folder / "vectors.npy", mmap_mode="r")[begin:end],
            np.load(folder / "sequences.npy", mmap_mode="r")[begin:end],
        )


def _add_shared(plan: Plan, numbers: NDArray[np.int64], columns: NDArray[np.float32]) -> None:
    """Write the features of shared entities into columns [F, N] of rows, whose numbers rise."""
    for entity in SHARED_ENTITIES:
        indices = vector_indices(entity)
        for shard in range(plan.shards):
            folder = plan.work / "entities" / f"{entity.value}-{shard:05}"
            found = np.load(folder / "numbers.npy", mmap_mode="r")
            begin, end = np.searchsorted(found, (numbers[0], numbers[-1] + 1)).tolist()
            if end > begin:
                features = np.load(folder / "features.npy", mmap_mode="r")[begin:end]
                row = np.searchsorted(numbers, found[begin:end])
                for index, values in zip(indices, features.T, strict=True):
                    columns[index, row] = values


def _ids_of(numbers: NDArray[np.int64], slices: Sequence[tuple[int, int, str]]) -> pa.Table:
    tables = []
    for first, rows, path in slices:
        begin, end = np.searchsorted(numbers, (first, first + rows)).tolist()
        if end > begin:
            tables.append(read_arrow(Path(path)).take(pa.array(numbers[begin:end] - first)))
    return pa.concat_tables(tables).combine_chunks()


def _outcome_columns(outcomes: Records) -> list[pa.Array]:
    arrival = np.ascontiguousarray(outcomes["label_arrival_ms"])
    return [
        pa.array(outcomes["event_ms"]),
        pa.array(outcomes["arrival_ms"]),
        pa.array(outcomes["amount"]),
        pa.array(outcomes["is_fraud"] == 1),
        pa.array(arrival, mask=arrival < 0),
        pa.array(_DISPOSITIONS).take(pa.array(outcomes["disposition"])),
    ]
