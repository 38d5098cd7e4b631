"""From a raw score to a probability: smooth, strictly rising, fitted in training, pure here."""

from __future__ import annotations

from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

# A float32 sigmoid reaches exactly 0 and 1, where a logit does not exist.
_EDGE: Final = 2.0**-24


class Calibration(BaseModel):
    """Beta calibration (Kull et al. 2017): logit(score) = a ln(p) - b ln(1 - p) + c.

    With a = b it is Platt's (1999), and with a = b = 1, c = 0 it changes nothing. Positive a and b
    keep the order of all scores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    kind: Literal["platt", "beta"]
    a: float = Field(gt=0)
    b: float = Field(gt=0)
    c: float

    @model_validator(mode="after")
    def _platt_is_symmetric(self) -> Self:
        if self.kind == "platt" and self.a != self.b:
            msg = "Platt's calibration has one slope: expected a = b"
            raise ValueError(msg)
        return self

    def scores(self, raw_scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return calibrated scores in [0, 1], float64, elementwise.

        >>> plain = Calibration(kind="platt", a=1.0, b=1.0, c=0.0)
        >>> plain.scores(np.array([0.25])).round(9).tolist()
        [0.25]
        """
        inside = _inside(raw_scores)
        logit = self.a * np.log(inside) - self.b * np.log1p(-inside) + self.c
        return np.asarray(1.0 / (1.0 + np.exp(-logit)))


def log_of(raw_scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return ln(p), finite for 0 too.

    >>> log_of(np.array([1.0])).tolist()[0] > -1e-7
    True
    """
    return np.asarray(np.log(_inside(raw_scores)))


def log_of_rest(raw_scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return ln(1 - p), finite for 1 too.

    >>> bool(np.isfinite(log_of_rest(np.array([1.0]))[0]))
    True
    """
    return np.asarray(np.log1p(-_inside(raw_scores)))


def _inside(raw_scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return scores moved in from 0 and 1, where a logit does not exist."""
    # np.clip costs twice as much for a few scores.
    return np.asarray(np.minimum(np.maximum(raw_scores.astype(np.float64), _EDGE), 1 - _EDGE))


class Thresholds(BaseModel):
    """Calibrated scores from which the action changes; a score on a threshold has reached it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    challenge: float = Field(gt=0, le=1)
    review: float = Field(gt=0, le=1)
    decline: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _in_rising_order(self) -> Self:
        if not self.challenge <= self.review <= self.decline:
            msg = "expected challenge <= review <= decline"
            raise ValueError(msg)
        return self
