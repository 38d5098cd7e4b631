"""Constants of the training rows that become part of the graph: scales, intervals, buckets.

It needs NumPy only, so that a network is rebuilt where nothing is trained; `fit_scaling` finds the
constants. Axes: N training rows, F features, T steps, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraudstream.features.catalogue import CATALOGUE, SEQUENCE_CHANNELS, Aggregation

AMOUNT, SECONDS_BEFORE, KIND, CHANNEL, MCC, HOUR = range(len(SEQUENCE_CHANNELS))
MCCS: Final = 10_000
PIECES: Final = 13  # intervals of a feature
LEAST_WIDTH: Final = 1e-4  # an interval without width is a step
BOUND: Final = 10.0  # standard deviations; further out nothing more is learned

_KNOWN_WELL_S: Final = 30.0 * 86_400  # after a month a card is as well known as it gets
NO_CEILING: Final = 3e38  # about the largest float32


class NetworkKind(StrEnum):
    """What reads the card's last transactions."""

    LSTM = "lstm"
    TRANSFORMER = "transformer"


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Sizes of the network.

    Attributes:
        features: F.
        kind: What reads the sequence.
        hidden: H of each layer, and of the vector's branch and the head.
        layers: Layers of the encoder.
        heads: Of a transformer's attention; H is a multiple of it.
        mcc_buckets: Buckets of merchant codes, the first for those not seen in training.
        mcc_width: Numbers that stand for a bucket.
        dropout: Share of units left out while learning.
        ceilings: Value of each feature above which it says no more; empty for no bounds.
    """

    features: int
    kind: NetworkKind = NetworkKind.LSTM
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    mcc_buckets: int = 48
    mcc_width: int = 6
    dropout: float = 0.2
    ceilings: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Scaling:
    """Constants of the training rows.

    Attributes:
        mean: float32 [F], of the signed logarithms; missing values left out.
        spread: float32 [F], their standard deviation.
        edges: float32 [F, PIECES + 1], rising, where each feature's intervals begin and end.
        ceiling: float32 [F], from the shape.
        amount_mean: Of the logarithms of amounts in the sequence.
        amount_spread: Their standard deviation.
        bucket_of_mcc: int64 [10000].
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    edges: NDArray[np.float32]
    ceiling: NDArray[np.float32]
    amount_mean: float
    amount_spread: float
    bucket_of_mcc: NDArray[np.int64]


def feature_ceilings() -> tuple[float, ...]:
    """Return the ceiling of each feature of the catalogue.

    How long a card is known grows with the calendar: without a bound, the weeks after training
    would lie outside everything that was learned.
    """
    return tuple(
        _KNOWN_WELL_S if feature.aggregation is Aggregation.SECONDS_SINCE_FIRST else NO_CEILING
        for feature in CATALOGUE
    )
