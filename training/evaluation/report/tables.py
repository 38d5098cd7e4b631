"""Tables of figures: ranking, alerts, cost, delay and calibration, one model a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from training.evaluation.figures.all_figures import ModelFigures
from training.evaluation.figures.operating import OperatingPoint
from training.evaluation.leakage import HANDBOOK_ORACLE_AP
from training.evaluation.report.document import Cell, Table
from training.evaluation.report.words import (
    NOTHING,
    count,
    interval,
    money,
    number,
    percent,
    spread,
)
from training.evaluation.result import Evaluation

# Fraud Detection Handbook, chapters 5 to 7: four test folds, settings chosen on validation.
PUBLISHED: Final = (
    ("published: LSTM", "0.665 ± 0.02", "0.876", "0.297"),
    ("published: LSTM with attention", "0.667 ± 0.01", "0.874", "0.295"),
    ("published: XGBoost, the book's best", "0.687 ± 0.01", "0.869", "0.303"),
    ("oracle that knows the generator", f"{HANDBOOK_ORACLE_AP} ± 0.014", "0.886", "0.310"),
)
# After calibration, pooled over the test folds, at the true prevalence.
ECE_BOUND: Final = 0.001
SKILL_BOUND: Final = 0.66


def ranking_table(evaluation: Evaluation) -> Table:
    """Return how well each model ranks, with its uncertainty and the published figures."""
    head = ["model", "AP", "95 % interval", "AP minus boosting", "AUC", "CP@100", "card recall@100"]
    rows: list[tuple[str | Cell, ...]] = [_ranking_row(model) for model in evaluation.models]
    if evaluation.protocol == "handbook" and evaluation.which == "test":
        rows += [(name, ap, NOTHING, NOTHING, auc, cp, NOTHING) for name, ap, auc, cp in PUBLISHED]
    return Table(
        "Ranking, mean over the folds ± standard deviation over the folds. Intervals are from"
        f" {count(evaluation.rounds)} draws of whole cards; a difference whose interval holds 0 may"
        " be chance.",
        head,
        rows,
    )


def _ranking_row(model: ModelFigures) -> tuple[str | Cell, ...]:
    versus = interval(model.versus, is_signed=True) if model.versus else NOTHING
    is_better = model.versus is not None and model.versus.is_above_zero
    return (
        model.name,
        spread(model.mean("ap"), model.std("ap")),
        interval(model.ap_interval),
        Cell(versus, "good" if is_better else ""),
        spread(model.mean("auc"), model.std("auc")),
        spread(model.mean("cp100"), model.std("cp100")),
        number(model.mean("card_recall100")),
    )


def by_fold_table(evaluation: Evaluation) -> Table:
    """Return the average precision of each fold."""
    return Table(
        "Average precision by fold.",
        ("model", *(f"{fold.fold} ({count(fold.frauds)} frauds)" for fold in evaluation.folds)),
        [(model.name, *(number(fold.ap) for fold in model.folds)) for model in evaluation.models],
    )


def points_table(
    caption: str, models: Sequence[ModelFigures], points: Sequence[Sequence[OperatingPoint]]
) -> Table:
    """Return what each model finds at some points, one level after another.

    Args:
        caption: What the levels are.
        models: In the order of the rows.
        points: Of each model, the same levels.
    """
    return Table(
        caption,
        ("level", "model", *_POINT_HEAD),
        [
            (percent(point.level, 2), model.name, *_point_cells(point))
            for level in range(len(points[0]))
            for model, found in zip(models, points, strict=True)
            for point in (found[level],)
        ],
        texts=2,
    )


def operating_table(models: Sequence[ModelFigures]) -> Table:
    """Return what the operating threshold gives, as it was chosen before the test."""
    return Table(
        "Operating threshold: chosen for each fold on its validation rows so that 0.5 % of them are"
        " flagged, then used on the tested rows as it is.",
        ("model", *_POINT_HEAD),
        [(model.name, *_point_cells(model.operating)) for model in models],
    )


_POINT_HEAD: Final = ("alerts", "frauds found", "precision", "recall", "FPR", "value found")


def _point_cells(point: OperatingPoint) -> tuple[str, ...]:
    return (
        count(point.alerts),
        count(point.caught),
        percent(point.precision),
        percent(point.recall),
        percent(point.fpr, 3),
        percent(point.value_detected),
    )


def cost_table(evaluation: Evaluation) -> Table:
    """Return what each model costs at the threshold that was cheapest on validation rows."""
    costs = evaluation.costs
    return Table(
        "Cost on the tested rows, major units of the reference currency, at the threshold that was"
        f" cheapest on validation rows. A review costs {costs.review_minor / 100:.2f}; of a good"
        f" payment that is declined {percent(costs.friction, 0)} of its amount is lost.",
        ("model", "threshold", "alerts", "missed fraud", "reviews", "friction", "total", "saved"),
        [
            (
                model.name,
                number(model.cost.threshold, 4),
                count(model.cost.alerts),
                money(model.cost.cost.missed_minor),
                money(model.cost.cost.review_minor),
                money(model.cost.cost.friction_minor),
                money(model.cost.cost.total_minor),
                percent(model.cost.saved_share),
            )
            for model in evaluation.models
        ],
    )


def delay_table(models: Sequence[ModelFigures]) -> Table:
    """Return how late a compromised card is noticed."""
    return Table(
        "What passes before the first alert of a card with fraud, at the operating threshold. Means"
        " and medians are over cards that are caught; the total counts the others too.",
        (
            "model",
            "cards",
            "caught",
            "at the first fraud",
            "mean frauds lost",
            "median",
            "mean amount lost",
            "total lost",
        ),
        [
            (
                model.name,
                count(delay.cards),
                percent(delay.caught_cards / max(1, delay.cards)),
                percent(delay.at_once_share),
                number(delay.mean_transactions, 2),
                number(delay.median_transactions, 1),
                money(delay.mean_lost_minor),
                money(delay.lost_minor),
            )
            for model in models
            for delay in (model.delay,)
        ],
    )


def calibration_table(models: Sequence[ModelFigures]) -> Table:
    """Return reliability before and after calibration."""
    return Table(
        "Pooled over the tested rows of all folds, at the true prevalence. ECE: mean gap of score"
        " and fraud share over 15 bins of equal mass. Skill: 1 - Brier / Brier of always saying the"
        " prevalence. Mean score / fraud share: 1 is right.",
        (
            "model",
            "ECE before",
            "ECE after",
            "Brier skill before",
            "after",
            "Brier after",
            "log loss before",
            "after",
            "mean score / fraud share",
        ),
        [
            (
                model.name,
                number(model.before.ece, 5),
                number(model.after.ece, 5),
                number(model.before.brier_skill),
                number(model.after.brier_skill),
                number(model.after.brier, 5),
                number(model.before.log_loss, 4),
                number(model.after.log_loss, 4),
                number(model.after.in_the_large, 2),
            )
            for model in models
        ],
    )
