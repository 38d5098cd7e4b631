"""One model's scores of all folds, one fold after another, as the pooled figures take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.figures.outcomes import Outcomes
from training.evaluation.figures.segments import Trait
from training.evaluation.run import FoldScores, Run, TestedRows
from training.metrics import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Pooled:
    """Tested rows of all folds, and one model's scores of them.

    Attributes:
        outcomes: Of the N rows, in time order.
        raw: float64 [N].
        score: float64 [N], calibrated, each fold by its own calibration.
        flagged: bool [N], by each fold's operating threshold.
        cheapest: bool [N], flagged by each fold's threshold of least cost.
        fold: int64 [N], number of each row's fold.
    """

    outcomes: Outcomes
    raw: Floats
    score: Floats
    flagged: Bools
    cheapest: Bools
    fold: Ints

    def by_fold_and_card(self) -> Outcomes:
        """Return the rows with a card of another fold as another card: each fold begins again."""
        cards = int(self.outcomes.card.max(initial=0)) + 1
        found = self.outcomes
        card = found.card + cards * self.fold
        return Outcomes(found.is_fraud, found.event_time_ms, card, found.amount_minor)


def pool(run: Run, name: str) -> Pooled:
    """Return one model's rows of all folds."""
    scores: Sequence[FoldScores] = run.scores[name]
    return Pooled(
        outcomes=Outcomes.concatenated([tested.outcomes for tested in run.tested]),
        raw=np.concatenate([each.raw for each in scores]),
        score=np.concatenate([each.score for each in scores]),
        flagged=np.concatenate([each.score >= each.threshold for each in scores]),
        cheapest=np.concatenate([each.score >= each.cheapest for each in scores]),
        fold=np.repeat(np.arange(len(scores)), [len(each.score) for each in scores]),
    )


def pool_traits(tested: Sequence[TestedRows]) -> list[Trait]:
    """Return the traits of the rows of all folds; one with a single segment divides nothing."""
    pooled = [
        Trait(parts[0].name, parts[0].labels, np.concatenate([part.segment for part in parts]))
        for parts in zip(*[fold.traits for fold in tested], strict=True)
    ]
    return [trait for trait in pooled if len(np.unique(trait.segment)) > 1]
