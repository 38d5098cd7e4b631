"""The baseline that is always shown beside a network: gradient-boosted trees on the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import xgboost
from numpy.typing import NDArray
from pydantic import Field

from training.dataset import Examples
from training.models.plan import Count, Rate, Seed

# Trees cannot read 32 steps; the last one adds kind, channel, merchant code and hour to the vector.
FIRST_CODE: Final = 2


@dataclass(frozen=True, slots=True)
class BoostingPlan:
    """How to fit trees.

    Attributes:
        trees: How many.
        depth: Of each at most.
        learning_rate: How far each counts.
        rows_share: Of rows drawn for each tree.
        columns_share: Of inputs drawn for each tree.
        least_weight: Of a leaf (XGBoost's `min_child_weight`).
        seed: Of what is drawn.
        threads: Threads of XGBoost.
    """

    trees: Count = 150
    depth: Annotated[int, Field(ge=1, le=32)] = 3
    learning_rate: Rate = 0.06
    rows_share: Rate = 0.8
    columns_share: Rate = 0.6
    least_weight: Annotated[float, Field(ge=0, le=1e6)] = 2.0
    seed: Seed = 1
    threads: Count = 1


def fit_boosting(train: Examples, plan: BoostingPlan) -> xgboost.XGBClassifier:
    """Fit trees to the examples. `base_score` and exact cuts as the book's library had them."""
    model = xgboost.XGBClassifier(
        n_estimators=plan.trees,
        max_depth=plan.depth,
        learning_rate=plan.learning_rate,
        tree_method="exact",
        base_score=0.5,
        subsample=plan.rows_share,
        colsample_bytree=plan.columns_share,
        min_child_weight=plan.least_weight,
        random_state=plan.seed,
        n_jobs=plan.threads,
    )
    return model.fit(_inputs(train), train.is_fraud)


def boosting_scores(model: xgboost.XGBClassifier, examples: Examples) -> NDArray[np.float64]:
    """Return the score of each example, float64 [N]."""
    return np.asarray(model.predict_proba(_inputs(examples))[:, 1], np.float64)


def _inputs(examples: Examples) -> NDArray[np.float32]:
    return np.concatenate([examples.vectors, examples.sequences[:, -1, FIRST_CODE:]], axis=1)
