"""Golden rows: inputs with known raw scores, which every engine must reproduce before it serves.

Axes: `N` golden rows, `T` sequence length, `C` channels, `F` the model's features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from fraudstream.engines.protocol import BUCKETS, Engine, FloatArray, score_rows
from fraudstream.errors import ModelRefused

_WARM_UP_RUNS: Final = 2


@dataclass(frozen=True, slots=True)
class GoldenRows:
    """Rows with known raw scores.

    Attributes:
        vectors: float32 [N, F].
        sequences: float32 [N, T, C].
        raw_scores: float32 [N].
    """

    vectors: FloatArray
    sequences: FloatArray
    raw_scores: FloatArray


def check_golden(engine: Engine, golden: GoldenRows, tolerance: float) -> None:
    """Score the golden rows in every bucket, which also warms each of them.

    Raises:
        ModelRefused: A raw score is further off than the tolerance (`MODEL_GOLDEN`).
    """
    for bucket in BUCKETS:
        for _ in range(_WARM_UP_RUNS):
            found = score_rows(engine, golden.vectors, golden.sequences, bucket)
        worst = float(np.max(np.abs(found - golden.raw_scores)))
        if not worst <= tolerance:  # so that NaN is refused as well
            msg = f"golden rows differ by {worst:.2e} in batches of {bucket}"
            raise ModelRefused("MODEL_GOLDEN", f"{msg}, at most {tolerance:.0e} is expected")
