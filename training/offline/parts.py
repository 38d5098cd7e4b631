"""Files of a training set: their columns, and how they are written.

Axes: N rows, F features, S steps, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
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
)

SEGMENT: Final = "segment_"
ID_COLUMNS: Final = ("card_token", "transaction_id")
_BLOCK_ROWS: Final = 256  # whose vectors stay in the processor's cache while they are turned


def segment_column(name: str) -> str:
    """Return what a column of the source that is kept to evaluate by is called in a set.

    >>> segment_column("region")
    'segment_region'
    """
    return f"{SEGMENT}{name}"


def part_schema(steps: int, segments: Sequence[str] = ()) -> pa.Schema:
    """Return the columns of a set that keeps so many steps of each sequence, and some segments.

    >>> part_schema(1).field("sequence").type
    FixedSizeBinaryType(fixed_size_binary[24])
    """
    needed = [
        *((name, pa.string()) for name in ID_COLUMNS),
        ("event_time_ms", pa.int64()),
        ("arrival_time_ms", pa.int64()),
        ("amount_reference_minor", pa.int64()),
        ("is_fraud", pa.bool_()),
    ]
    computed = [
        *((name, pa.float32()) for name in FEATURE_NAMES),
        ("sequence", pa.binary(4 * steps * len(SEQUENCE_CHANNELS))),
    ]
    # A column that cannot be null is written without saying of each row that it is there.
    return pa.schema(
        [
            *(pa.field(*named, nullable=False) for named in needed),
            pa.field("label_arrival_ms", pa.int64()),
            pa.field("disposition", pa.string()),
            *(pa.field(*named, nullable=False) for named in computed),
            *(pa.field(segment_column(name), pa.string()) for name in segments),
        ],
        metadata={"feature_set_hash": FEATURE_SET_HASH, "sequence_hash": SEQUENCE_HASH},
    )


def feature_columns(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors float32 [N, F] by column: float32 [F, N].

    >>> feature_columns(np.zeros((3, 2), np.float32)).shape
    (2, 3)
    """
    columns = np.empty(vectors.shape[::-1], np.float32)
    for begin in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[begin : begin + _BLOCK_ROWS]
        columns[:, begin : begin + len(block)] = block.T
    return columns


def sequence_column(sequences: NDArray[np.float32]) -> pa.Array:
    """Return sequences float32 [N, S, C] as bytes, one value a row.

    >>> sequence_column(np.zeros((2, 1, 6), np.float32)).type
    FixedSizeBinaryType(fixed_size_binary[24])
    """
    _, steps, channels = sequences.shape
    width = pa.binary(sequences.itemsize * steps * channels)
    return pa.Array.from_buffers(width, len(sequences), [None, pa.py_buffer(sequences)])


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write rows of a training set as one file.

    The bytes of numbers are split, first bytes first: LZ4 then makes them smaller than zstd makes
    whole numbers, in half the time.
    """
    options: dict[str, Any] = {
        "use_dictionary": ["card_token", "disposition"],
        "use_byte_stream_split": [*FEATURE_NAMES, "sequence"],
        "write_statistics": ["event_time_ms", "arrival_time_ms"],
    }
    pq.write_table(table, path, compression="lz4", **options)
