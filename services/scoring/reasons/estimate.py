"""Reasons without the engine: a straight-line estimate of the model, fitted to its golden rows.

A manifest carries rows with known raw scores. Ridge regression of their log-odds on how far each
feature is from its usual value says at load, once, what a step of each is worth; a group's estimate
is the sum over its features. Pure, about two microseconds a row. On the demo's model it names the
same first reason as measuring does for 92 of 100 flagged rows, scores by distance alone 60.

Axes: `N` golden rows, `B` rows, `F` the model's features, `G` groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from fraudstream.engines.golden import GoldenRows
from fraudstream.engines.protocol import FloatArray
from services.scoring.reasons.occlusion import Occlusion, logit

# Penalty on a weight of a feature in units of its spread, in rows: 256 golden rows have some 100
# features. From 3 to 100 the estimates agree equally well with what is measured.
_RIDGE_ROWS: Final = 30.0
# Rounding alone gives a constant column a spread of about 1e-16.
_NEVER_MOVED: Final = 1e-6

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a step of each feature is worth.

    Attributes:
        usual: Baseline of each feature, float32 [F].
        weights: Log-odds a unit of distance, by group, float64 [F, G].
    """

    usual: FloatArray
    weights: Floats

    @classmethod
    def fit(cls, golden: GoldenRows, occlusions: Sequence[Occlusion]) -> Self:
        """Fit the estimate of a model to its golden rows."""
        usual = np.zeros(golden.vectors.shape[1], np.float32)
        for group in occlusions:
            usual[group.columns] = group.column_values
        distances = _distances(golden.vectors, usual)  # [N, F]
        spread = distances.std(axis=0)
        spread[spread < _NEVER_MOVED] = np.inf  # nothing is known of its worth
        steps = np.c_[distances / spread, np.ones(len(distances))]  # [N, F + 1]
        penalty = np.eye(steps.shape[1]) * _RIDGE_ROWS
        penalty[-1, -1] = 1e-9  # the level is free
        worth = np.linalg.solve(steps.T @ steps + penalty, steps.T @ logit(golden.raw_scores))
        weights = np.zeros((len(usual), len(occlusions)))
        for index, group in enumerate(occlusions):
            weights[group.columns, index] = (worth[:-1] / spread)[group.columns]
        return cls(usual, weights)

    def contributions(self, vectors: FloatArray) -> Floats:
        """Return about how far each group moved each row towards fraud, log-odds, [B, G]."""
        return _distances(vectors, self.usual) @ self.weights


def _distances(vectors: FloatArray, usual: FloatArray) -> Floats:
    """Return how far values are from the usual ones, squeezed; a missing one is at none."""
    apart = np.nan_to_num(vectors.astype(np.float64) - usual)
    return np.sign(apart) * np.log1p(np.abs(apart))
