"""Constants of the training rows that become part of the graph: scales, intervals, buckets.

Axes: N training rows, F features, T steps, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from fraudstream.features.catalogue import CATALOGUE, SEQUENCE_CHANNELS, Aggregation

AMOUNT, SECONDS_BEFORE, KIND, CHANNEL, MCC, HOUR = range(len(SEQUENCE_CHANNELS))
MCCS: Final = 10_000
PIECES: Final = 13  # intervals of a feature
LEAST_WIDTH: Final = 1e-4  # an interval without width is a step
BOUND: Final = 10.0  # standard deviations; further out nothing more is learned

_KNOWN_WELL_S: Final = 30.0 * 86_400  # after a month a card is as well known as it gets
_NO_CEILING: Final = 3e38  # about the largest float32
# Rare signs, such as known frauds, have next to no spread; dividing by it would make them jump.
_LEAST_SPREAD: Final = 0.1
_LEAST_LEAF: Final = 50  # rows between two cuts, so that a cut is no accident


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Sizes of the network.

    Attributes:
        features: F.
        hidden: H of each LSTM layer, and of the vector's branch and the head.
        layers: LSTM layers.
        mcc_buckets: Buckets of merchant codes, the first for those not seen in training.
        mcc_width: Numbers that stand for a bucket.
        dropout: Share of units left out while learning.
        ceilings: Value of each feature above which it says no more; empty for no bounds.
    """

    features: int
    hidden: int = 64
    layers: int = 2
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
        _KNOWN_WELL_S if feature.aggregation is Aggregation.SECONDS_SINCE_FIRST else _NO_CEILING
        for feature in CATALOGUE
    )


def fit_scaling(
    vectors: NDArray[np.float32],
    sequences: NDArray[np.float32],
    is_fraud: NDArray[np.bool_],
    shape: NetworkShape,
) -> Scaling:
    """Return the scaling of some training rows: float32 [N, F], float32 [N, T, C], bool [N]."""
    ceiling = np.array(shape.ceilings or (_NO_CEILING,) * shape.features, np.float32)
    bounded = np.minimum(vectors, ceiling)
    logs = (np.sign(bounded) * np.log1p(np.abs(bounded))).astype(np.float64)
    count = (~np.isnan(logs)).sum(axis=0).clip(1)
    mean = np.nansum(logs, axis=0) / count
    spread = np.sqrt(np.nansum((logs - mean) ** 2, axis=0) / count)
    amounts = np.log1p(sequences[:, -1, AMOUNT].astype(np.float64))
    return Scaling(
        mean=mean.astype(np.float32),
        spread=np.maximum(spread, _LEAST_SPREAD).astype(np.float32),
        edges=np.stack([_edges_of(bounded[:, place], is_fraud) for place in range(shape.features)]),
        ceiling=ceiling,
        amount_mean=float(amounts.mean()),
        amount_spread=max(float(amounts.std()), _LEAST_SPREAD),
        bucket_of_mcc=_bucket_of_mcc(sequences, shape.mcc_buckets),
    )


def _edges_of(values: NDArray[np.float32], is_fraud: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return where one feature is cut: by a small tree, so that cuts lie where fraud changes."""
    known = ~np.isnan(values)
    edges = np.zeros(PIECES + 1, np.float32)
    if not known.any():
        return edges
    tree = DecisionTreeClassifier(
        max_leaf_nodes=PIECES, min_samples_leaf=_LEAST_LEAF, random_state=0
    ).fit(values[known, None], is_fraud[known])
    inner = tree.tree_.threshold[tree.tree_.children_left >= 0]
    found = np.concatenate([[values[known].min()], np.sort(inner), [values[known].max()]])
    edges[:] = found[-1]
    edges[: len(found)] = found
    return edges


def _bucket_of_mcc(sequences: NDArray[np.float32], buckets: int) -> NDArray[np.int64]:
    """Return the bucket of each code: the commonest have their own, the rest share the first."""
    codes = np.clip(sequences[:, -1, MCC].astype(np.int64), 0, MCCS - 1)
    present, counts = np.unique(codes, return_counts=True)
    common = present[np.argsort(-counts, kind="stable")][: buckets - 1]
    bucket = np.zeros(MCCS, np.int64)
    bucket[common] = np.arange(1, len(common) + 1)
    return bucket
