"""Measure one model of a run: scores and outcomes in, all its figures out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fraudstream.models.psi import SCORE_EDGES, Psi, counts_of, psi_of_counts
from training.evaluation.figures.all_figures import CostFigures, ModelFigures, Ranking, SchemeRecall
from training.evaluation.figures.bootstrap import (
    Draws,
    Interval,
    Statistic,
    Truth,
    ap_by_card,
    bootstrap,
    mean_of,
)
from training.evaluation.figures.cost import CostModel, cost_of
from training.evaluation.figures.detection import detection_delay
from training.evaluation.figures.operating import (
    FALSE_POSITIVE_RATES,
    OperatingPoint,
    flag_budget,
    flag_fpr,
    point_of,
)
from training.evaluation.figures.outcomes import Outcomes
from training.evaluation.figures.reliability import reliability
from training.evaluation.figures.segments import measure_segments, worst_of
from training.evaluation.pooled import Pooled, pool, pool_traits
from training.evaluation.run import OPERATING_BUDGET, Run
from training.metrics import (
    ALERT_BUDGETS,
    Bools,
    Floats,
    average_precision,
    card_precision_at_k,
    card_recall_at_k,
    roc_auc,
)
from training.simulator.fraudsters import FraudKind


@dataclass(frozen=True, slots=True)
class Measures:
    """How figures are made of scores.

    Attributes:
        costs: What mistakes cost.
        draws: Of the bootstrap.
        versus: Name of the model that all are compared with.
    """

    costs: CostModel
    draws: Draws
    versus: str


def measure_model(run: Run, name: str, measures: Measures) -> ModelFigures:
    """Return all figures of one model of a run."""
    pooled = pool(run, name)
    outcomes, score = pooled.outcomes, pooled.score
    segments = measure_segments(score, pooled.flagged, outcomes.is_fraud, pool_traits(run.tested))
    statistic, cards = _mean_ap(run, name)
    is_known = np.concatenate([tested.is_card_known for tested in run.tested])
    return ModelFigures(
        name=name,
        folds=[_ranking(run, name, number) for number in range(len(run.tested))],
        ap=statistic(np.ones(cards, np.int64)),
        ap_interval=bootstrap(statistic, cards, measures.draws),
        versus=_versus(run, name, measures),
        before=reliability(np.clip(pooled.raw, 0.0, 1.0), outcomes.is_fraud),
        after=reliability(score, outcomes.is_fraud),
        operating=point_of(OPERATING_BUDGET, score, pooled.flagged, outcomes),
        budgets=[
            point_of(budget, score, flag_budget(score, budget), outcomes)
            for budget in ALERT_BUDGETS
        ],
        rates=[
            point_of(rate, score, flag_fpr(score, outcomes.is_fraud, rate), outcomes)
            for rate in FALSE_POSITIVE_RATES
        ],
        cost=_cost(run, name, pooled, measures.costs),
        delay=detection_delay(pooled.flagged, pooled.by_fold_and_card()),
        segments=segments,
        worst=list(worst_of(segments)),
        new_catches=_part(pooled, ~is_known),
        known_cards=_part(pooled, is_known) if is_known.any() else None,
        schemes=_schemes(run, pooled),
        score_psi=_score_psi(run, name),
    )


def _ranking(run: Run, name: str, number: int) -> Ranking:
    tested, scores = run.tested[number], run.scores[name][number]
    is_fraud = tested.outcomes.is_fraud
    scored = tested.outcomes.scored(scores.raw)
    good = reliability(scores.score, is_fraud)
    return Ranking(
        fold=tested.fold,
        rows=len(is_fraud),
        frauds=int(is_fraud.sum()),
        ap=average_precision(scores.raw, is_fraud),
        auc=roc_auc(scores.raw, is_fraud),
        cp100=card_precision_at_k(scored),
        card_recall100=card_recall_at_k(scored),
        brier_skill=good.brier_skill,
        ece=good.ece,
    )


def _mean_ap(run: Run, name: str) -> tuple[Statistic, int]:
    """Return mean AP over the folds as a function of drawn cards, and the number of cards."""
    cards = np.unique(np.concatenate([tested.outcomes.card for tested in run.tested]))
    statistics = [
        ap_by_card(
            scores.raw,
            Truth(tested.outcomes.is_fraud, np.searchsorted(cards, tested.outcomes.card)),
        )
        for tested, scores in zip(run.tested, run.scores[name], strict=True)
    ]
    return mean_of(statistics), len(cards)


def _versus(run: Run, name: str, measures: Measures) -> Interval | None:
    if name == measures.versus or measures.versus not in run.scores:
        return None
    mine, cards = _mean_ap(run, name)
    theirs, _ = _mean_ap(run, measures.versus)
    return bootstrap(lambda drawn: mine(drawn) - theirs(drawn), cards, measures.draws)


def _cost(run: Run, name: str, pooled: Pooled, model: CostModel) -> CostFigures:
    cost = cost_of(pooled.cheapest, pooled.outcomes, model)
    nothing = cost_of(np.zeros(len(pooled.outcomes), np.bool_), pooled.outcomes, model)
    chosen = np.array([fold.cheapest for fold in run.scores[name]])
    return CostFigures(
        threshold=float(chosen.mean()) if np.isfinite(chosen).all() else None,
        alerts=int(pooled.cheapest.sum()),
        cost=cost,
        nothing_minor=nothing.total_minor,
        saved_share=1 - cost.total_minor / max(1, nothing.total_minor),
    )


def _part(pooled: Pooled, inside: Bools) -> OperatingPoint:
    score: Floats = pooled.score[inside]
    outcomes: Outcomes = pooled.outcomes.where(inside)
    return point_of(OPERATING_BUDGET, score, pooled.flagged[inside], outcomes)


def _score_psi(run: Run, name: str) -> list[Psi]:
    """Return the PSI of each fold's scores against the first's.

    Each fold has a fit of its own, and deciles would compare how two fits number the harmless.
    """
    counts = [counts_of(fold.score, np.array(SCORE_EDGES)) for fold in run.scores[name]]
    return [psi_of_counts(counts[0], each) for each in counts]


def _schemes(run: Run, pooled: Pooled) -> list[SchemeRecall]:
    known = [tested.scheme for tested in run.tested if tested.scheme is not None]
    if not known:
        return []
    scheme = np.concatenate(known)
    return [
        SchemeRecall(
            scheme=kind.name.lower().replace("_", " "),
            frauds=int(np.sum(scheme == kind)),
            recall=float(pooled.flagged[scheme == kind].mean()),
        )
        for kind in FraudKind
        if kind is not FraudKind.GENUINE and (scheme == kind).any()
    ]
