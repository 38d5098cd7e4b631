"""Find the constants of the training rows that become part of the graph.

Axes: N training rows, F features, T steps, C channels.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from training.models.scaling import AMOUNT, MCC, MCCS, NO_CEILING, PIECES, NetworkShape, Scaling

# Rare signs, such as known frauds, have next to no spread; dividing by it would make them jump.
_LEAST_SPREAD: Final = 0.1
_LEAST_LEAF: Final = 50  # rows between two cuts, so that a cut is no accident


def fit_scaling(
    vectors: NDArray[np.float32],
    sequences: NDArray[np.float32],
    is_fraud: NDArray[np.bool_],
    shape: NetworkShape,
) -> Scaling:
    """Return the scaling of some training rows: float32 [N, F], float32 [N, T, C], bool [N]."""
    ceiling = np.array(shape.ceilings or (NO_CEILING,) * shape.features, np.float32)
    bounded = np.minimum(vectors, ceiling)
    logs = (np.sign(bounded) * np.log1p(np.abs(bounded))).astype(np.float64)
    count = (~np.isnan(logs)).sum(axis=0).clip(1)
    mean = np.nansum(logs, axis=0) / count
    spread = np.sqrt(np.nansum((logs - mean) ** 2, axis=0) / count)
    amounts = np.log1p(sequences[:, -1, AMOUNT].astype(np.float64))
    return Scaling(
        mean=mean.astype(np.float32),
        spread=np.maximum(spread, _LEAST_SPREAD).astype(np.float32),
        edges=np.stack([_edges_of(bounded[:, index], is_fraud) for index in range(shape.features)]),
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
