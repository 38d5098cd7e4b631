"""What every engine does, in which batch sizes, and how far its raw scores may be off.

Axes: `B` rows of a batch, `N` rows in all, `T` sequence length, `C` channels, `F` features.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64)
MAX_ROWS: Final = BUCKETS[-1]
# Each size of a GPU is one of a CPU or a multiple of its largest: a batch can change over.
GPU_BUCKETS: Final = (*BUCKETS, 128, 256, 512, 1024)


class Precision(StrEnum):
    """What the weights and the sums of a model are."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"  # weights, and inputs of matrix products; the rest is fp32


# Bound on raw scores between an engine and the golden rows, bad-input table M8. int8 is held to the
# scores of its own file: what it lost against fp32 was measured when it was made.
GOLDEN_TOLERANCE: Final[Mapping[Precision, float]] = MappingProxyType(
    {Precision.FP32: 1e-5, Precision.FP16: 5e-4}
)


class Engine(Protocol):
    """What turns vectors and sequences into raw scores. Called from one thread at a time."""

    @property
    def version(self) -> str:
        """Return the name and version of the library that computed the last batch."""
        ...

    @property
    def buckets(self) -> tuple[int, ...]:
        """Return the batch sizes that it takes now, rising."""
        ...

    @property
    def is_cpu(self) -> bool:
        """Return whether a CPU alone computes now: a GPU that stalls must not stall its caller."""
        ...

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B], of float32 [B, F] and float32 [B, T, C].

        Raises:
            ModelNotLoaded: The engine failed and gave no scores.
        """
        ...

    def close(self) -> None:
        """Give back what it holds, after the last batch."""
        ...


def bucket_of(rows: int, buckets: tuple[int, ...] = BUCKETS) -> int:
    """Return the smallest bucket that holds so many rows.

    >>> [bucket_of(rows) for rows in (1, 2, 8, 9, 64)]
    [1, 2, 8, 16, 64]
    """
    return next(bucket for bucket in buckets if bucket >= rows)


def pad_rows(rows: FloatArray, bucket: int) -> FloatArray:
    """Return the rows with zero rows after them, float32 [bucket, ...].

    >>> pad_rows(np.ones((1, 2), np.float32), 2).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    if len(rows) == bucket:
        return rows
    padded = np.zeros((bucket, *rows.shape[1:]), np.float32)
    padded[: len(rows)] = rows
    return padded


def score_rows(
    engine: Engine, vectors: FloatArray, sequences: FloatArray, bucket: int = MAX_ROWS
) -> FloatArray:
    """Return raw scores of any number of rows, float32 [N], in padded batches of one size.

    Raises:
        ModelNotLoaded: The engine failed.
    """
    scores = np.empty(len(vectors), np.float32)
    for begin in range(0, len(scores), bucket):
        end = min(begin + bucket, len(scores))
        padded = engine.score(
            pad_rows(vectors[begin:end], bucket), pad_rows(sequences[begin:end], bucket)
        )
        scores[begin:end] = padded[: end - begin]
    return scores
