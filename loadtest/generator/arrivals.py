"""When calls are due. Pure."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt

_NS_PER_S = 1e9


class Arrivals(StrEnum):
    """How the times between calls are spread."""

    POISSON = "poisson"
    CONSTANT = "constant"


def due_times_ns(
    arrivals: Arrivals, rate_per_s: float, seconds: float, seed: int
) -> npt.NDArray[np.int64]:
    """Return when each call of a run is due, nanoseconds from its begin, int64 [N], rising.

    A Poisson run has the same number of calls as a constant one, at independent uniform times:
    that is what a Poisson process is, given how many came.

    >>> (due_times_ns(Arrivals.CONSTANT, 4.0, 1.0, seed=1) / 1e6).tolist()
    [0.0, 250.0, 500.0, 750.0]
    """
    count = max(1, round(rate_per_s * seconds))
    if arrivals is Arrivals.CONSTANT:
        return (np.arange(count) * (_NS_PER_S / rate_per_s)).astype(np.int64)
    times = np.random.default_rng(seed).uniform(0.0, seconds * _NS_PER_S, count)
    return np.sort(times).astype(np.int64)
