"""Golden rows: inputs with known raw scores, which every engine must reproduce before it serves.

Every golden row is scored once at least, and every bucket twice at least, in one pass over batches
of all sizes. So one pass both proves the rows and warms what a bucket needs. That a row scores the
same in another bucket is a property of the engine, and tested as one.

Axes: `N` golden rows, `M` rows of all batches, `T` sequence length, `C` channels, `F` features.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.engines.protocol import (
    BUCKETS,
    GOLDEN_TOLERANCE,
    Engine,
    FloatArray,
    Precision,
    bucket_of,
)
from fraudstream.errors import ModelRefused

BoolArray = npt.NDArray[np.bool_]
# Raw scores found and expected, float32 [M] both, to what is wrong with them; empty for nothing.
GoldenRule = Callable[[FloatArray, FloatArray], str]

# Rows that may change sides of the review threshold in int8: 2 of 256. What quantising cost in AP
# and alerts is measured where it is done; this finds kernels that compute something else.
MOVED_ALERTS: Final = 0.01
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


def within(tolerance: float) -> GoldenRule:
    """Return the rule that no raw score is further off than a tolerance.

    >>> within(1e-5)(np.array([0.25]), np.array([0.5]))
    'raw scores differ by 2.50e-01, at most 1e-05 is expected'
    """

    def fault(found: FloatArray, expected: FloatArray) -> str:
        worst = float(np.max(np.abs(found - expected)))
        if worst <= tolerance:
            return ""
        return f"raw scores differ by {worst:.2e}, at most {tolerance:.0e} is expected"

    return fault


def same_alerts(is_alert: Callable[[FloatArray], BoolArray]) -> GoldenRule:
    """Return the rule that the same rows become alerts, but for one in a hundred.

    Args:
        is_alert: Raw scores to whether each reaches the review threshold.

    >>> same_alerts(lambda raw: raw >= 0.5)(np.array([0.6, 0.1]), np.array([0.7, 0.2]))
    ''
    """

    def fault(found: FloatArray, expected: FloatArray) -> str:
        moved = int(np.sum(is_alert(found) != is_alert(expected)))
        if moved <= MOVED_ALERTS * len(expected):
            return ""
        return f"{moved} of {len(expected)} rows are alerts on one side only"

    return fault


def rule_of(precision: Precision, is_alert: Callable[[FloatArray], BoolArray]) -> GoldenRule:
    """Return the rule that an engine of a precision is held to.

    >>> rule_of(Precision.FP32, lambda raw: raw >= 0.5)(np.array([0.25]), np.array([0.25]))
    ''
    """
    tolerance = GOLDEN_TOLERANCE.get(precision)
    return same_alerts(is_alert) if tolerance is None else within(tolerance)


def check_golden(engine: Engine, golden: GoldenRows, rule: GoldenRule) -> float:
    """Score every golden row, in batches of all sizes; return the best time of a full one, ms.

    Raises:
        ModelRefused: `MODEL_GOLDEN`: a raw score is no number in [0, 1], all are equal, or the rule
            is broken.
        ModelNotLoaded: The engine failed.
    """
    batches = golden_batches(len(golden.raw_scores), engine.buckets)
    found, full_ns = [], []
    for rows in batches:
        began_ns = time.perf_counter_ns()
        found.append(engine.score(golden.vectors[rows], golden.sequences[rows]))
        if len(rows) == engine.buckets[-1]:
            full_ns.append(time.perf_counter_ns() - began_ns)
    check_scores(np.concatenate(found), golden.raw_scores[np.concatenate(batches)], rule)
    return min(full_ns) / 1e6


def check_scores(found: FloatArray, expected: FloatArray, rule: GoldenRule) -> None:
    """Compare raw scores, float32 [M] both.

    Raises:
        ModelRefused: As `check_golden`.
    """
    fault = rule(found, expected)
    if not ((found >= 0) & (found <= 1)).all():  # false for NaN too
        fault = "expected raw scores in [0, 1], found others or none"
    elif np.ptp(expected) > 0 and np.ptp(found) == 0:
        fault = "all raw scores are equal: the model says nothing"
    if fault:
        raise ModelRefused("MODEL_GOLDEN", f"golden rows: {fault}")


def golden_batches(count: int, buckets: tuple[int, ...] = BUCKETS) -> list[npt.NDArray[np.intp]]:
    """Return the rows of each batch: all buckets twice, then what the rows that are left need.

    >>> [len(rows) for rows in golden_batches(256)]
    [1, 2, 4, 8, 16, 32, 64, 1, 2, 4, 8, 16, 32, 64, 2]
    """
    sizes = list(buckets) * _WARM_UP_RUNS
    while (left := count - sum(sizes)) > 0:
        sizes.append(bucket_of(min(left, buckets[-1]), buckets))
    ends = np.cumsum(sizes)
    return [np.arange(end - size, end) % count for size, end in zip(sizes, ends, strict=True)]
