"""Last stage: parts of the training set, in order, from what the card and entity shards left."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraudstream.features.catalogue import (
    FEATURE_NAMES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
    SHARED_ENTITIES,
)
from training.offline.cards import vector_places
from training.offline.layout import PART_ROWS, RANGE_ROWS
from training.offline.plan import Plan
from training.offline.work import Records, Summary, read_arrow

SEQUENCE_BYTES: Final = 4 * SEQUENCE_LENGTH * len(SEQUENCE_CHANNELS)
ID_COLUMNS: Final = ("card_token", "transaction_id")
OUTCOME_SCHEMA: Final = pa.schema(
    [
        ("event_time_ms", pa.int64()),
        ("arrival_time_ms", pa.int64()),
        ("amount_reference_minor", pa.int64()),
        ("is_fraud", pa.bool_()),
        ("label_arrival_ms", pa.int64()),
    ]
)
PART_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ID_COLUMNS),
        *OUTCOME_SCHEMA,
        *((name, pa.float32()) for name in FEATURE_NAMES),
        ("sequence", pa.binary(SEQUENCE_BYTES)),
    ],
    metadata={"feature_set_hash": FEATURE_SET_HASH, "sequence_hash": SEQUENCE_HASH},
)


@dataclass(frozen=True, slots=True)
class PartRows:
    """Row numbers of one part: [begin, end)."""

    begin: int
    end: int


def cut_parts(ranges: Mapping[int, int]) -> list[PartRows]:
    """Return parts of about `PART_ROWS` wanted rows.

    Args:
        ranges: How many wanted rows each range of `RANGE_ROWS` row numbers has.

    >>> cut_parts({3: 5})
    [PartRows(begin=24576, end=32768)]
    """
    parts: list[PartRows] = []
    held, begin, end = 0, 0, 0
    for number in sorted(ranges):
        if held and held + ranges[number] > PART_ROWS:
            parts.append(PartRows(begin, end))
            held = 0
        if not held:
            begin = number * RANGE_ROWS
        held, end = held + ranges[number], (number + 1) * RANGE_ROWS
    return [*parts, PartRows(begin, end)] if held else parts


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
    lots = [lot for s in range(plan.shards) if (lot := _CardLot.of(plan.work, s, rows)) is not None]
    outcomes = np.concatenate([lot.outcomes for lot in lots])
    order = np.argsort(outcomes["number"])
    outcomes = outcomes[order]
    vectors = np.concatenate([lot.vectors for lot in lots])[order]
    sequences = np.concatenate([lot.sequences for lot in lots])[order]
    _add_shared(plan, outcomes["number"], vectors)
    sequence_type = PART_SCHEMA.field("sequence").type
    buffers = [None, pa.py_buffer(np.ascontiguousarray(sequences))]
    table = pa.Table.from_arrays(
        [
            *_ids_of(outcomes["number"], ids),
            *_outcome_columns(outcomes),
            *(pa.array(column) for column in np.ascontiguousarray(vectors.T)),
            pa.Array.from_buffers(sequence_type, len(outcomes), buffers),
        ],
        schema=PART_SCHEMA,
    )
    return {"name": name, "rows": len(outcomes), "sha256": _write(plan.folder / name, table)}


def _write(path: Path, table: pa.Table) -> str:
    unfinished = path.with_suffix(".unfinished")
    options: dict[str, Any] = {
        "use_dictionary": ["card_token"],
        "use_byte_stream_split": list(FEATURE_NAMES),
        "write_statistics": ["event_time_ms", "arrival_time_ms"],
    }
    pq.write_table(table, unfinished, compression="zstd", compression_level=1, **options)
    with unfinished.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return digest


@dataclass(frozen=True, slots=True)
class _CardLot:
    """Rows of a part that lie in one card shard."""

    outcomes: Records
    vectors: NDArray[np.float32]
    sequences: NDArray[np.float32]

    @classmethod
    def of(cls, work: Path, shard: int, rows: PartRows) -> _CardLot | None:
        folder = work / "cards" / f"{shard:05}"
        outcomes = np.load(folder / "outcomes.npy", mmap_mode="r")
        begin, end = np.searchsorted(outcomes["number"], (rows.begin, rows.end)).tolist()
        if begin == end:
            return None
        return cls(
            outcomes[begin:end],
            np.load(folder / "vectors.npy", mmap_mode="r")[begin:end],
            np.load(folder / "sequences.npy", mmap_mode="r")[begin:end],
        )


def _add_shared(plan: Plan, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
    """Write the features of shared entities into the vectors of rows, whose numbers rise."""
    for entity in SHARED_ENTITIES:
        places = vector_places(entity)
        for shard in range(plan.shards):
            folder = plan.work / "entities" / f"{entity.value}-{shard:05}"
            found = np.load(folder / "numbers.npy", mmap_mode="r")
            begin, end = np.searchsorted(found, (numbers[0], numbers[-1] + 1)).tolist()
            if end > begin:
                features = np.load(folder / "features.npy", mmap_mode="r")[begin:end]
                row = np.searchsorted(numbers, found[begin:end])
                vectors[np.ix_(row, places)] = features


def _ids_of(numbers: NDArray[np.int64], slices: Sequence[tuple[int, int, str]]) -> list[pa.Array]:
    tables = []
    for first, rows, path in slices:
        begin, end = np.searchsorted(numbers, (first, first + rows)).tolist()
        if end > begin:
            tables.append(read_arrow(Path(path)).take(pa.array(numbers[begin:end] - first)))
    table = pa.concat_tables(tables).combine_chunks()
    return [table[name] for name in ID_COLUMNS]


def _outcome_columns(outcomes: Records) -> list[pa.Array]:
    arrival = np.ascontiguousarray(outcomes["label_arrival_ms"])
    return [
        pa.array(outcomes["event_ms"]),
        pa.array(outcomes["arrival_ms"]),
        pa.array(outcomes["amount"]),
        pa.array(outcomes["is_fraud"] == 1),
        pa.array(arrival, mask=arrival < 0),
    ]
