"""The population stability index: how far the shares of values have moved. B bins.

PSI = sum over bins of (current - reference) x ln(current / reference), both as shares. Lewis (1994)
and Siddiqi (2006) read under 0.10 as stable and over 0.25 as a shift; we look from 0.1 on and raise
the alarm at 0.2 already, since a week is quicker to look at than to lose. Of two samples of one
population PSI is not 0 but about chi-squared with B - 1 degrees of freedom times (1/n + 1/m)
(Yurdakul and Naranjo 2020): below the 99 % point of that nothing is raised, however few the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

WATCH: Final = 0.1
ALARM: Final = 0.2
# Edges of a score's bins, where decisions may differ; what is below fraud's usual share is one bin.
SCORE_EDGES: Final = (0.005, 0.01, 0.03, 0.1, 0.3)
BINS: Final = 10
_NORMAL_99: Final = 2.3263
# Half a row in each bin, so that an empty one makes PSI large and not infinite.
_HALF_ROW: Final = 0.5

Values = NDArray[np.float32] | NDArray[np.float64]
Floats = NDArray[np.float64]


class DriftLevel(StrEnum):
    """What to do about a drift."""

    STABLE = "stable"
    WATCH = "watch"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Psi:
    """How far one quantity has moved.

    Attributes:
        psi: Population stability index.
        noise: 99 % point of what chance alone gives with so many rows and bins.
        bins: B, with the one for missing values.
        reference_missing: Share of missing values in the reference.
        current_missing: The same now.
    """

    psi: float
    noise: float
    bins: int
    reference_missing: float
    current_missing: float

    @property
    def level(self) -> DriftLevel:
        """Return what to do about it."""
        if self.psi < max(WATCH, self.noise):
            return DriftLevel.STABLE
        return DriftLevel.ALARM if self.psi >= ALARM else DriftLevel.WATCH


def bin_edges(reference: Values, bins: int = BINS) -> Floats:
    """Return inner edges that cut the known reference values into about equal parts, rising.

    A value that many rows share is a bin of its own: it is an edge, and so is the next value.

    >>> bin_edges(np.arange(8.0), bins=4).tolist()
    [2.0, 4.0, 6.0]
    """
    known: Floats = np.sort(reference[~np.isnan(reference)]).astype(np.float64)
    if not len(known):
        return np.zeros(0)
    indices = (np.arange(1, bins) * len(known)) // bins
    edges = np.unique(known[indices])
    above = np.searchsorted(known, edges, side="right")
    heavy = above - np.searchsorted(known, edges) > len(known) / bins
    after = known[above[heavy & (above < len(known))]]
    return np.unique(np.concatenate([edges[edges > known[0]], after]))


def counts_of(values: Values, edges: Floats) -> NDArray[np.int64]:
    """Return rows by bin, int64 [B]: below the first edge, between edges, above, and missing.

    >>> counts_of(np.array([1.0, 2.0, np.nan]), np.array([2.0])).tolist()
    [1, 1, 1]
    """
    is_known = ~np.isnan(values)
    index = np.searchsorted(edges, values[is_known], side="right")
    counts = np.bincount(index, minlength=len(edges) + 1)
    return np.append(counts, len(values) - is_known.sum()).astype(np.int64)


def psi_of_counts(reference: NDArray[np.int64], current: NDArray[np.int64]) -> Psi:
    """Return the PSI of two counts of the same bins, the last for missing values.

    Bins that are empty in both say nothing and are left out.
    """
    used = (reference + current) > 0
    bins = int(used.sum())
    before, now = _shares(reference[used]), _shares(current[used])
    rows, others = max(1, int(reference.sum())), max(1, int(current.sum()))
    chance = _chi_squared_99(max(1, bins - 1)) * (1 / rows + 1 / others)
    return Psi(
        psi=float(np.sum((now - before) * np.log(now / before))),
        noise=chance,
        bins=bins,
        reference_missing=float(reference[-1]) / rows,
        current_missing=float(current[-1]) / others,
    )


def _chi_squared_99(freedom: int) -> float:
    """Return the 99 % point of chi-squared to within 1 % (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + _NORMAL_99 * math.sqrt(spread)) ** 3


def _shares(counts: NDArray[np.int64]) -> Floats:
    raised: Floats = counts.astype(np.float64) + _HALF_ROW
    total = float(raised.sum())
    return raised / total


def psi_of(reference: Values, current: Values) -> Psi:
    """Return the PSI of two samples, with bins from the reference.

    >>> psi_of(np.arange(1000.0), np.arange(1000.0)).level
    <DriftLevel.STABLE: 'stable'>
    """
    edges = bin_edges(reference)
    return psi_of_counts(counts_of(reference, edges), counts_of(current, edges))
