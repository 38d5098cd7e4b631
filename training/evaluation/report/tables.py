"""Tables of an evaluation, each a caption and its columns: what a column is called, and its text.

First the figures, one model a row; then what lies around them: folds, segments, schemes, drift,
checks, settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from training.evaluation.figures.all_figures import ModelFigures
from training.evaluation.figures.operating import OperatingPoint
from training.evaluation.figures.segments import (
    CALIBRATION,
    FLAG_RATIO,
    FPR,
    MEASURES,
    RECALL,
    THIN_FALSE_ALERTS,
    THIN_FRAUDS,
    SegmentFigures,
)
from training.evaluation.leakage import HANDBOOK_ORACLE_AP
from training.evaluation.report.document import Cell, Column, Table, table_of
from training.evaluation.report.words import (
    NOTHING,
    count,
    interval,
    money,
    number,
    percent,
    ratio_text,
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

_Row = TypeVar("_Row")
_MODEL: Final[Column[ModelFigures]] = ("model", lambda model: model.name)


def ranking_table(evaluation: Evaluation) -> Table:
    """Return how well each model ranks, with its uncertainty and the published figures."""

    def versus(model: ModelFigures) -> Cell:
        if model.versus is None:
            return Cell(NOTHING)
        is_better = model.versus.is_above_zero
        return Cell(interval(model.versus, is_signed=True), "good" if is_better else "")

    published: list[tuple[str | Cell, ...]] = []
    if evaluation.protocol == "handbook" and evaluation.which == "test":
        published = [(n, ap, NOTHING, NOTHING, auc, cp, NOTHING) for n, ap, auc, cp in PUBLISHED]
    return table_of(
        "Ranking, mean over the folds ± standard deviation over the folds. Intervals are from"
        f" {count(evaluation.rounds)} draws of whole cards; a difference whose interval holds 0 may"
        " be chance.",
        evaluation.models,
        _MODEL,
        ("AP", lambda model: spread(model.mean("ap"), model.std("ap"))),
        ("95 % interval", lambda model: interval(model.ap_interval)),
        ("AP minus boosting", versus),
        ("AUC", lambda model: spread(model.mean("auc"), model.std("auc"))),
        ("CP@100", lambda model: spread(model.mean("cp100"), model.std("cp100"))),
        ("card recall@100", lambda model: number(model.mean("card_recall100"))),
        more=published,
    )


def by_fold_table(evaluation: Evaluation) -> Table:
    """Return the average precision of each fold."""
    return table_of(
        "Average precision by fold.",
        evaluation.models,
        _MODEL,
        *(
            (f"{fold.fold} ({count(fold.frauds)} frauds)", partial(_ap_of_fold, index))
            for index, fold in enumerate(evaluation.folds)
        ),
    )


def _ap_of_fold(index: int, model: ModelFigures) -> str:
    return number(model.folds[index].ap)


def points_table(
    caption: str, models: Sequence[ModelFigures], points: Sequence[Sequence[OperatingPoint]]
) -> Table:
    """Return what each model finds at some points, one level after another.

    Args:
        caption: What the levels are.
        models: In the order of the rows.
        points: Of each model, the same levels.
    """
    rows = [
        (percent(point.level, 2), model.name, point)
        for level in zip(*points, strict=True)
        for model, point in zip(models, level, strict=True)
    ]
    return table_of(
        caption,
        rows,
        ("level", lambda row: row[0]),
        ("model", lambda row: row[1]),
        *_point_columns(_last),
        texts=2,
    )


def _last(row: tuple[str, str, OperatingPoint]) -> OperatingPoint:
    return row[-1]


def operating_table(models: Sequence[ModelFigures]) -> Table:
    """Return what the operating threshold gives, as it was chosen before the test."""
    return table_of(
        "Operating threshold: chosen for each fold on its validation rows so that 0.5 % of them are"
        " flagged, then used on the tested rows as it is.",
        models,
        _MODEL,
        *_point_columns(_operating),
    )


def _operating(model: ModelFigures) -> OperatingPoint:
    return model.operating


def _point_columns(point_of: Callable[[_Row], OperatingPoint]) -> list[Column[_Row]]:
    return [
        ("alerts", lambda row: count(point_of(row).alerts)),
        ("frauds found", lambda row: count(point_of(row).caught)),
        ("precision", lambda row: percent(point_of(row).precision)),
        ("recall", lambda row: percent(point_of(row).recall)),
        ("FPR", lambda row: percent(point_of(row).fpr, 3)),
        ("value found", lambda row: percent(point_of(row).value_detected)),
    ]


def cost_table(evaluation: Evaluation) -> Table:
    """Return what each model costs at the threshold that was cheapest on validation rows."""
    costs = evaluation.costs
    return table_of(
        "Cost on the tested rows, major units of the reference currency, at the threshold that was"
        f" cheapest on validation rows. A review costs {costs.review_minor / 100:.2f}; of a good"
        f" payment that is declined {percent(costs.friction, 0)} of its amount is lost.",
        evaluation.models,
        _MODEL,
        ("threshold", lambda model: number(model.cost.threshold, 4)),
        ("alerts", lambda model: count(model.cost.alerts)),
        ("missed fraud", lambda model: money(model.cost.cost.missed_minor)),
        ("reviews", lambda model: money(model.cost.cost.review_minor)),
        ("friction", lambda model: money(model.cost.cost.friction_minor)),
        ("total", lambda model: money(model.cost.cost.total_minor)),
        ("saved", lambda model: percent(model.cost.saved_share)),
    )


def delay_table(models: Sequence[ModelFigures]) -> Table:
    """Return how late a compromised card is noticed."""
    return table_of(
        "What passes before the first alert of a card with fraud, at the operating threshold. Means"
        " and medians are over cards that are caught; the total counts the others too.",
        models,
        _MODEL,
        ("cards", lambda model: count(model.delay.cards)),
        ("caught", lambda model: percent(model.delay.caught_cards / max(1, model.delay.cards))),
        ("at the first fraud", lambda model: percent(model.delay.at_once_share)),
        ("mean frauds lost", lambda model: number(model.delay.mean_transactions, 2)),
        ("median", lambda model: number(model.delay.median_transactions, 1)),
        ("mean amount lost", lambda model: money(model.delay.mean_lost_minor)),
        ("total lost", lambda model: money(model.delay.lost_minor)),
    )


def calibration_table(models: Sequence[ModelFigures]) -> Table:
    """Return reliability before and after calibration."""
    return table_of(
        "Pooled over the tested rows of all folds, at the true prevalence. ECE: mean gap of score"
        " and fraud share over 15 bins of equal mass. Skill: 1 - Brier / Brier of always saying the"
        " prevalence. Mean score / fraud share: 1 is right.",
        models,
        _MODEL,
        ("ECE before", lambda model: number(model.before.ece, 5)),
        ("ECE after", lambda model: number(model.after.ece, 5)),
        ("Brier skill before", lambda model: number(model.before.brier_skill)),
        ("after", lambda model: number(model.after.brier_skill)),
        ("Brier after", lambda model: number(model.after.brier, 5)),
        ("log loss before", lambda model: number(model.before.log_loss, 4)),
        ("after", lambda model: number(model.after.log_loss, 4)),
        ("mean score / fraud share", lambda model: number(model.after.in_the_large, 2)),
    )


def folds_table(evaluation: Evaluation) -> Table:
    """Return what each fold learned from and was tested on."""
    return table_of(
        "Folds, by the first day of the test. Rows are transactions.",
        evaluation.folds,
        ("test from", lambda fold: fold.fold),
        ("rows learned", lambda fold: count(fold.learned_rows)),
        ("frauds", lambda fold: count(fold.learned_frauds)),
        ("rows tested", lambda fold: count(fold.rows)),
        ("frauds", lambda fold: count(fold.frauds)),
        ("prevalence", lambda fold: percent(fold.frauds / max(1, fold.rows), 2)),
    )


def segments_table(model: ModelFigures) -> Table:
    """Return the figures of each segment, with ratios over 1.25 marked."""
    return table_of(
        f"{model.name}, by segment, at the operating threshold. A ratio compares the segment with"
        f" all rows, 1 is alike; over {FLAG_RATIO} is marked. Ratios in brackets say little: fewer"
        f" than {THIN_FRAUDS} frauds, or than {THIN_FALSE_ALERTS} false alerts to be expected.",
        model.segments,
        ("trait", lambda found: found.trait),
        ("segment", lambda found: found.label),
        ("rows", lambda found: count(found.rows)),
        ("frauds", lambda found: count(found.frauds)),
        ("alerts", lambda found: count(found.alerts)),
        ("recall", lambda found: percent(found.recall)),
        ("recall ratio", lambda found: _ratio(found, RECALL)),
        ("FPR", lambda found: percent(found.fpr, 3)),
        ("FPR ratio", lambda found: _ratio(found, FPR)),
        ("score / fraud share", lambda found: number(found.in_the_large, 2)),
        ("calibration ratio", lambda found: _ratio(found, CALIBRATION)),
        texts=2,
    )


def _ratio(found: SegmentFigures, measure: str) -> Cell:
    text = ratio_text(MEASURES[measure](found))
    if found.is_thin(measure):
        return Cell(f"({text})")
    return Cell(text, "bad" if measure in found.flags else "")


def worst_table(model: ModelFigures) -> Table:
    """Return the worst segment of each trait against all rows."""
    return table_of(
        f"{model.name}: the worst segment of each trait against all rows, among those with enough"
        " rows to tell.",
        model.worst,
        ("trait", lambda worst: worst.trait),
        ("measure", lambda worst: worst.measure),
        ("worst segment", lambda worst: worst.label),
        ("ratio", lambda worst: Cell(ratio_text(worst.ratio), "bad" if worst.is_flagged else "")),
        texts=3,
    )


def known_table(models: Sequence[ModelFigures]) -> Table:
    """Return new catches and cards known as compromised apart."""
    rows = [
        (model.name, label, point)
        for model in models
        for label, point in (("new", model.new_catches), ("known", model.known_cards))
        if point is not None
    ]
    return table_of(
        "Cards with a fraud that was known when the transaction came (known) and all others (new),"
        " at the operating threshold.",
        rows,
        ("model", lambda row: row[0]),
        ("cards", lambda row: row[1]),
        *_point_columns(_last)[:4],
        texts=2,
    )


def schemes_table(models: Sequence[ModelFigures]) -> Table:
    """Return recall by fraud scheme."""
    return table_of(
        "Recall by fraud scheme, at the operating threshold.",
        range(len(models[0].schemes)),
        ("scheme", lambda index: models[0].schemes[index].scheme),
        ("frauds", lambda index: count(models[0].schemes[index].frauds)),
        *((model.name, partial(_recall_of_scheme, model)) for model in models),
    )


def _recall_of_scheme(model: ModelFigures, index: int) -> str:
    return percent(model.schemes[index].recall)


def psi_table(evaluation: Evaluation) -> Table:
    """Return the score's PSI of each fold against the first."""
    return table_of(
        "PSI of the calibrated score of each fold against the first fold.",
        evaluation.models,
        _MODEL,
        *((fold.fold, partial(_psi_of_fold, index)) for index, fold in enumerate(evaluation.folds)),
    )


def _psi_of_fold(index: int, model: ModelFigures) -> str:
    return number(model.score_psi[index].psi)


_HOLDS: Final = {True: Cell("yes", "good"), False: Cell("NO", "bad"), None: Cell("not run")}


def checks_table(evaluation: Evaluation) -> Table:
    """Return the leakage checklist."""
    return table_of(
        "Leakage checklist, run on the first fold that has frauds.",
        evaluation.checks,
        ("check", lambda check: check.name),
        ("holds", lambda check: _HOLDS[check.is_passed]),
        ("what was found", lambda check: check.found),
        texts=3,
    )


def settings_table(evaluation: Evaluation) -> Table:
    """Return the settings of each model."""
    return table_of(
        f"Settings, from {evaluation.configs}.",
        [
            (name, ", ".join(f"{key} {value}" for key, value in found.items()) or "none")
            for name, found in evaluation.settings.items()
        ],
        ("model", lambda row: row[0]),
        ("settings", lambda row: row[1]),
        texts=2,
    )
