"""Several members as one engine: the log-odds of each, weighted and added.

Axes: `B` rows of a batch, `T` sequence length, `C` sequence channels, `F` the model's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.engines.protocol import Engine, FloatArray

# Bounds on a member's raw score inside the formula. Below, a float32 sigmoid reaches exactly 0,
# where log-odds do not exist. Above, float32 resolves 6e-8: at 1 - 2**-24 one step of rounding
# moves the log-odds by 0.7, and another processor's engine would give another score; at 1 - 2**-10
# it moves them by 6e-5, and the score by less than the tolerance of the golden rows. More than
# 1000 to 1 no single member says.
_LEAST: Final = 2.0**-24
_MOST: Final = 1 - 2.0**-10


@dataclass(frozen=True, slots=True)
class Formula:
    """How the raw scores of members become the model's: logit = bias + sum of weight x logit.

    Attributes:
        weights: One for each member, in their order.
        bias: Added to the sum.
    """

    weights: tuple[float, ...]
    bias: float

    def combine(self, raw_scores: Sequence[npt.NDArray[np.floating]]) -> FloatArray:
        """Return the model's raw scores, float32 [B], of one array [B] for each member.

        One member with weight 1 and bias 0 keeps its scores to the bit.

        >>> Formula((1.0,), 0.0).combine([np.array([0.25], np.float32)]).tolist()
        [0.25]
        >>> Formula((0.5, 0.5), 0.0).combine([np.array([0.2]), np.array([0.8])]).tolist()
        [0.5]
        """
        if self.weights == (1.0,) and self.bias == 0.0:
            return np.asarray(raw_scores[0], np.float32)
        members = zip(self.weights, raw_scores, strict=True)
        logit = sum((weight * bounded_logit(raw) for weight, raw in members), np.float64(self.bias))
        return np.asarray(1.0 / (1.0 + np.exp(-logit)), np.float32)


def bounded_logit(raw_scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return log-odds as the formula reads them, float64, finite for 0 and 1; NaN stays NaN.

    >>> bounded_logit(np.array([0.5, 1.0])).round(2).tolist()
    [0.0, 6.93]
    """
    bounded = np.clip(raw_scores.astype(np.float64), _LEAST, _MOST)
    return np.asarray(np.log(bounded / (1.0 - bounded)))


class MembersEngine:
    """Scores a batch with every member and combines them. Call it from one thread at a time."""

    def __init__(self, engines: Sequence[Engine], formula: Formula) -> None:
        self._engines = engines
        self._formula = formula
        self.is_cpu = all(engine.is_cpu for engine in engines)

    @property
    def version(self) -> str:
        """Return what computes the members, each library once."""
        return "+".join(dict.fromkeys(engine.version for engine in self._engines))

    @property
    def buckets(self) -> tuple[int, ...]:
        """Return the batch sizes of the member that takes most: ONNX Runtime takes any."""
        return max((engine.buckets for engine in self._engines), key=len)

    def score(self, vectors: FloatArray, sequences: FloatArray) -> FloatArray:
        """Return raw scores, float32 [B].

        Raises:
            ModelNotLoaded: A member's engine failed.
        """
        return self._formula.combine([engine.score(vectors, sequences) for engine in self._engines])

    def close(self) -> None:
        """Give back what the members hold."""
        for engine in self._engines:
            engine.close()
