"""Repeats: the median of a figure's values and the interval that holds it. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

# Order statistics that enclose the median at least this often (binomial, no assumption about how
# values are distributed). Five values give 0.94 between the smallest and the largest.
COVERAGE: Final = 0.90


def median_of(values: Sequence[float]) -> float:
    """Return the median.

    >>> median_of([3.0, 1.0, 2.0])
    2.0
    """
    return statistics.median(values)


def interval_of(values: Sequence[float]) -> tuple[float, float]:
    """Return the narrowest pair of order statistics that encloses the median often enough.

    With four values or fewer that is the smallest and the largest, whatever it is worth.

    >>> interval_of([5.0, 1.0, 4.0, 2.0, 3.0])
    (1.0, 5.0)
    """
    ordered = sorted(values)
    count, cut = len(ordered), 0
    while cut + 1 <= (count - 1) // 2 and _coverage(count, cut + 1) >= COVERAGE:
        cut += 1
    return ordered[cut], ordered[-1 - cut]


def _coverage(count: int, cut: int) -> float:
    """Return how often the median lies inside when `cut` values are left out at each end."""
    tail = sum(math.comb(count, outside) for outside in range(cut + 1))
    return 1.0 - 2.0 * tail / 2.0**count
