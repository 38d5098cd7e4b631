"""The baseline that is always shown beside a network: gradient-boosted trees on the same inputs."""

from __future__ import annotations

import numpy as np
import xgboost
from numpy.typing import NDArray

from training.dataset import Examples

# Trees cannot read 32 steps; the last one adds kind, channel, merchant code and hour to the vector.
_FIRST_CODE = 2


def fit_boosting(train: Examples, seed: int = 1, threads: int = 1) -> xgboost.XGBClassifier:
    """Fit trees to the examples. `base_score` and exact cuts as the book's library had them."""
    model = xgboost.XGBClassifier(
        n_estimators=150,
        max_depth=3,
        learning_rate=0.06,
        tree_method="exact",
        base_score=0.5,
        subsample=0.8,
        colsample_bytree=0.6,
        min_child_weight=2,
        random_state=seed,
        n_jobs=threads,
    )
    return model.fit(_inputs(train), train.is_fraud)


def boosting_scores(model: xgboost.XGBClassifier, examples: Examples) -> NDArray[np.float64]:
    """Return the score of each example, float64 [N]."""
    return np.asarray(model.predict_proba(_inputs(examples))[:, 1], np.float64)


def _inputs(examples: Examples) -> NDArray[np.float32]:
    return np.concatenate([examples.vectors, examples.sequences[:, -1, _FIRST_CODE:]], axis=1)
