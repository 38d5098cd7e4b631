"""Tables of what lies around the figures: folds, segments, schemes, drift, checks, settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from training.evaluation.figures.all_figures import ModelFigures
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
from training.evaluation.report.document import Cell, Table
from training.evaluation.report.words import count, number, percent, ratio_text
from training.evaluation.result import Evaluation


def folds_table(evaluation: Evaluation) -> Table:
    """Return what each fold learned from and was tested on."""
    return Table(
        "Folds, by the first day of the test. Rows are transactions.",
        ("test from", "rows learned", "frauds", "rows tested", "frauds", "prevalence"),
        [
            (
                fold.fold,
                count(fold.learned_rows),
                count(fold.learned_frauds),
                count(fold.rows),
                count(fold.frauds),
                percent(fold.frauds / max(1, fold.rows), 2),
            )
            for fold in evaluation.folds
        ],
    )


def segments_table(model: ModelFigures) -> Table:
    """Return the figures of each segment, with ratios over 1.25 marked."""
    return Table(
        f"{model.name}, by segment, at the operating threshold. A ratio compares the segment with"
        f" all rows, 1 is alike; over {FLAG_RATIO} is marked. Ratios in brackets say little: fewer"
        f" than {THIN_FRAUDS} frauds, or than {THIN_FALSE_ALERTS} false alerts to be expected.",
        (
            "trait",
            "segment",
            "rows",
            "frauds",
            "alerts",
            "recall",
            "recall ratio",
            "FPR",
            "FPR ratio",
            "score / fraud share",
            "calibration ratio",
        ),
        [_segment_row(found) for found in model.segments],
        texts=2,
    )


def _segment_row(found: SegmentFigures) -> tuple[str | Cell, ...]:
    def ratio(measure: str) -> Cell:
        text = ratio_text(MEASURES[measure](found))
        if found.is_thin(measure):
            return Cell(f"({text})")
        return Cell(text, "bad" if measure in found.flags else "")

    return (
        found.trait,
        found.label,
        count(found.rows),
        count(found.frauds),
        count(found.alerts),
        percent(found.recall),
        ratio(RECALL),
        percent(found.fpr, 3),
        ratio(FPR),
        number(found.in_the_large, 2),
        ratio(CALIBRATION),
    )


def worst_table(model: ModelFigures) -> Table:
    """Return the worst segment of each trait against all rows."""
    return Table(
        f"{model.name}: the worst segment of each trait against all rows, among those with enough"
        " rows to tell.",
        ("trait", "measure", "worst segment", "ratio"),
        [
            (
                worst.trait,
                worst.measure,
                worst.label,
                Cell(ratio_text(worst.ratio), "bad" if worst.is_flagged else ""),
            )
            for worst in model.worst
        ],
        texts=3,
    )


def known_table(models: Sequence[ModelFigures]) -> Table:
    """Return new catches and cards known as compromised apart."""
    rows = []
    for model in models:
        for label, point in (("new", model.new_catches), ("known", model.known_cards)):
            if point is not None:
                rows.append(
                    (
                        model.name,
                        label,
                        count(point.alerts),
                        count(point.caught),
                        percent(point.precision),
                        percent(point.recall),
                    )
                )
    return Table(
        "Cards with a fraud that was known when the transaction came (known) and all others (new),"
        " at the operating threshold.",
        ("model", "cards", "alerts", "frauds found", "precision", "recall"),
        rows,
        texts=2,
    )


def schemes_table(models: Sequence[ModelFigures]) -> Table:
    """Return recall by fraud scheme."""
    return Table(
        "Recall by fraud scheme, at the operating threshold.",
        ("scheme", "frauds", *(model.name for model in models)),
        [
            (
                scheme.scheme,
                count(scheme.frauds),
                *(percent(model.schemes[place].recall) for model in models),
            )
            for place, scheme in enumerate(models[0].schemes)
        ],
    )


def psi_table(evaluation: Evaluation) -> Table:
    """Return the score's PSI of each fold against the first."""
    return Table(
        "PSI of the calibrated score of each fold against the first fold.",
        ("model", *(fold.fold for fold in evaluation.folds)),
        [
            (model.name, *(number(psi.psi) for psi in model.score_psi))
            for model in evaluation.models
        ],
    )


_HOLDS: Final = {True: Cell("yes", "good"), False: Cell("NO", "bad"), None: Cell("not run")}


def checks_table(evaluation: Evaluation) -> Table:
    """Return the leakage checklist."""
    return Table(
        "Leakage checklist, run on the first fold that has frauds.",
        ("check", "holds", "what was found"),
        [
            (
                check.name,
                _HOLDS[check.is_passed],
                check.found,
            )
            for check in evaluation.checks
        ],
        texts=3,
    )


def settings_table(evaluation: Evaluation) -> Table:
    """Return the settings of each model."""
    return Table(
        f"Settings, from {evaluation.configs}.",
        ("model", "settings"),
        [
            (name, ", ".join(f"{key} {value}" for key, value in found.items()) or "none")
            for name, found in evaluation.settings.items()
        ],
        texts=2,
    )
