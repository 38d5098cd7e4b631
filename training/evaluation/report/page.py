"""The report of an evaluation: one page that a newcomer and a model-risk officer both can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from fraudstream.models.psi import SCORE_EDGES
from training.evaluation.figures.all_figures import ModelFigures
from training.evaluation.figures.cost import cost_curve
from training.evaluation.figures.reliability import reliability_bins
from training.evaluation.pooled import Pooled, pool
from training.evaluation.report import plots, tables
from training.evaluation.report.document import Document, Plot, Section, html_of
from training.evaluation.report.words import count, interval, number, percent
from training.evaluation.result import Evaluation
from training.evaluation.run import Run
from training.evaluation.trainers import AMOUNT_RULE, BOOSTING, PREVALENCE

_PROTOCOLS: Final = {
    "handbook": "This is the protocol of the Fraud Detection Handbook, so that the figures can be"
    " compared with the published ones: a model learns from one week, the next week is left out"
    " because its frauds are not known yet, and the week after that is the test. Cards that are"
    " known to be compromised are left out of the test. Four such folds follow one another.",
    "platform": "This is how a bank would run the model: before each test week it learns from all"
    " history whose labels had arrived by then, with the labels known on that day. No card is left"
    " out of the test; cards already known to be compromised are also shown apart, because finding"
    " them again is easy.",
}
_WORDS: Final = (
    "Fraud found (recall): share of the fraudulent transactions that are flagged.",
    "Precision: share of the flagged transactions that are fraud.",
    "AP (average precision): mean precision over all recalls; a score that knows nothing has the"
    " prevalence, a perfect one has 1. It is the first figure to look at when fraud is rare.",
    "AUC: chance that a fraud scores above a genuine transaction. Where fraud is rare it may be"
    " high although most alerts are false, as most genuine transactions are easy.",
    "CP@100 (Card Precision@100): each day the 100 most suspicious cards are looked at; the share"
    " of them that is compromised. Card recall@100 is the share of the compromised cards that is"
    " among them.",
    "FPR (false-positive rate): share of the genuine transactions that are flagged.",
    "Calibrated score: a probability. Of transactions with a score of 0.3 three in ten are fraud.",
    "PSI (population stability index): how far shares of scores have moved; 0 is not at all.",
)


def report_page(evaluation: Evaluation, run: Run, subject: str) -> str:
    """Return the report as HTML, with details of one model."""
    model = evaluation.model(subject)
    document = Document(
        title=f"Evaluation by the {evaluation.protocol} protocol",
        subtitle=f"{len(evaluation.models)} models on {len(evaluation.folds)} {evaluation.which}"
        f" folds; details are those of: {subject}.",
        facts=facts_of(evaluation),
        sections=[
            *_first(evaluation, model),
            *_alerts(evaluation, run),
            *_details(evaluation, run, model),
            *_last(evaluation, model),
        ],
    )
    return html_of(document)


def facts_of(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what identifies an evaluation."""
    rows = sum(fold.rows for fold in evaluation.folds)
    frauds = sum(fold.frauds for fold in evaluation.folds)
    labels = [] if evaluation.labels is None else [("Labels", evaluation.labels.text())]
    return [
        ("Evaluated on", evaluation.material),
        ("SHA-256 of it", evaluation.fingerprint),
        *labels,
        ("Feature set", evaluation.feature_set_hash),
        (
            "Tested",
            f"{count(rows)} transactions, {count(frauds)} of them fraud"
            f" ({percent(frauds / max(1, rows), 2)})",
        ),
        *evaluation.made.items(),
        ("First days of the tests", ", ".join(fold.fold for fold in evaluation.folds)),
    ]


def _first(evaluation: Evaluation, model: ModelFigures) -> Iterator[Section]:
    yield Section("In short", points=summary_points(evaluation, model))
    yield Section(
        "How it was tested",
        paragraphs=(
            _PROTOCOLS[evaluation.protocol],
            "Every model learns each fold from scratch, is calibrated on late rows that it did not"
            " learn from, and its thresholds are chosen on those rows too. The tested rows are used"
            " once, all of them that are labelled.",
        ),
        tables=(tables.folds_table(evaluation),),
    )
    yield Section("Words", points=_WORDS)


def summary_points(evaluation: Evaluation, model: ModelFigures) -> list[str]:
    """Return what matters most about one model, in sentences."""
    failed = [check.name for check in evaluation.checks if check.is_failed]
    held = sum(check.is_passed is True for check in evaluation.checks)
    not_run = [check.name for check in evaluation.checks if check.is_passed is None]
    flagged = [worst for worst in model.worst if worst.is_flagged]
    points = [
        f"{model.name.capitalize()} has an average precision of {number(model.mean('ap'))}"
        f" (95 % interval {interval(model.ap_interval)}){_over_folds(evaluation)}.",
        _against(model),
        f"At the operating threshold it flags {count(model.operating.alerts)} transactions,"
        f" finds {percent(model.operating.recall)} of the frauds and"
        f" {percent(model.operating.value_detected)} of their value;"
        f" {percent(model.operating.precision)} of its alerts are fraud.",
        f"Calibration: ECE {number(model.after.ece, 5)} and Brier skill"
        f" {number(model.after.brier_skill)} after calibration{_bounds(evaluation)}.",
        f"Segments: {len(flagged)} of {len(model.worst)} comparisons with all rows are over 1.25"
        " among segments with enough rows."
        if model.worst
        else "Segments: none has enough rows for a comparison.",
    ]
    if failed:
        return [*points, f"Leakage: FAILED: {', '.join(failed)}. Do not use these figures."]
    left = f"; not run: {', '.join(not_run)}" if not_run else ""
    return [*points, f"Leakage: the {held} checks that were run hold{left}."]


def _over_folds(evaluation: Evaluation) -> str:
    tested = sum(fold.frauds > 0 for fold in evaluation.folds)
    if tested == len(evaluation.folds):
        return ""
    return f", mean over the {tested} of {len(evaluation.folds)} folds that have frauds"


def _bounds(evaluation: Evaluation) -> str:
    if evaluation.protocol != "handbook":
        return ""
    return f" (bounds there: at most {tables.ECE_BOUND}, at least {tables.SKILL_BOUND})"


def _against(model: ModelFigures) -> str:
    if model.versus is None:
        return "It is the baseline that all others are compared with."
    found = f"{model.versus.estimate:+.3f} (95 % interval {interval(model.versus, is_signed=True)})"
    beyond = "beyond chance" if model.versus.is_above_zero else "not beyond chance"
    return f"Against boosting on the same rows its average precision is {found}: {beyond}."


def _alerts(evaluation: Evaluation, run: Run) -> Iterator[Section]:
    models = evaluation.models
    shown = {model.name: pool(run, model.name) for model in models}
    is_fraud = shown[models[0].name].outcomes.is_fraud
    scores = {name: found.score for name, found in shown.items() if name != PREVALENCE}
    yield Section(
        "Ranking",
        tables=(tables.ranking_table(evaluation), tables.by_fold_table(evaluation)),
        plots=(
            Plot(
                "Precision against recall, all folds together: the further right and up a line"
                " stays, the better. A model is read where the bank can afford the alerts.",
                plots.precision_recall_plot(scores, is_fraud),
            ),
        ),
    )
    yield Section(
        "Alerts",
        tables=(
            tables.operating_table(models),
            tables.points_table(
                "At alert budgets: the given share of all tested transactions is flagged.",
                models,
                [model.budgets for model in models],
            ),
            tables.points_table(
                "At false-positive rates: at most the given share of genuine transactions is"
                " flagged.",
                models,
                [model.rates for model in models],
            ),
        ),
    )
    yield _cost(evaluation, shown)


def _cost(evaluation: Evaluation, shown: Mapping[str, Pooled]) -> Section:
    models = evaluation.models
    curves = {
        name: cost_curve(found.score, found.outcomes, evaluation.costs)
        for name, found in shown.items()
        if name not in (PREVALENCE, AMOUNT_RULE)
    }
    chosen = {model.name: model.cost.threshold for model in models}
    return Section(
        "Cost",
        paragraphs=(
            "Cost is the amount of missed fraud, plus the alerts times the cost of a review, plus"
            " what is lost of good payments that are declined. The threshold is chosen where that"
            " sum is least on validation rows; the tested rows only tell what it came to.",
        ),
        plots=(
            Plot(
                "Cost on the tested rows against the threshold; a dot marks the threshold that"
                " validation chose (mean over the folds). Major units of the reference currency.",
                plots.cost_plot(curves, {name: at for name, at in chosen.items() if at}),
            ),
        ),
        tables=(tables.cost_table(evaluation), tables.delay_table(models)),
    )


def _details(evaluation: Evaluation, run: Run, model: ModelFigures) -> Iterator[Section]:
    found = pool(run, model.name)
    is_fraud = found.outcomes.is_fraud
    yield Section(
        "Calibration",
        plots=(
            Plot(
                f"{model.name}: share of fraud against mean score, bins of equal mass. On the line"
                " a score is a probability. Bins without fraud stand at the lower edge.",
                plots.calibration_plot(
                    {
                        "before calibration": reliability_bins(found.raw, is_fraud),
                        "after calibration": reliability_bins(found.score, is_fraud),
                    }
                ),
            ),
        ),
        tables=(tables.calibration_table(evaluation.models),),
    )
    yield Section(
        "Segments",
        paragraphs=(
            "A model that is good on average may fail a group: cards that are new, small amounts,"
            " nights. All segments meet one threshold, as they do when it serves.",
        ),
        plots=(
            Plot(
                f"{model.name}: recall by segment, with the number of frauds in brackets; grey bars"
                " have fewer than 30.",
                plots.segment_plot(model.segments, model.operating.recall),
            ),
        ),
        tables=(tables.worst_table(model), tables.segments_table(model)),
    )
    if model.known_cards is not None:
        yield Section("Known cards", tables=(tables.known_table(evaluation.models),))
    if model.schemes:
        yield Section("Fraud schemes", tables=(tables.schemes_table(evaluation.models),))


def _last(evaluation: Evaluation, model: ModelFigures) -> Iterator[Section]:
    shown = {BOOSTING, model.name}
    psi = {
        each.name: [found.psi for found in each.score_psi]
        for each in evaluation.models
        if each.name in shown
    }
    yield Section(
        "Drift",
        paragraphs=(
            "Shares of transactions by score, each fold against the first, in bins that end at"
            f" {', '.join(str(edge) for edge in SCORE_EDGES)}. Each fold has a model of its own, so"
            " this shows how steady retraining is; the model that serves is watched by"
            " fraudstream training drift.",
        ),
        plots=(
            Plot(
                "PSI of the score by fold. Over 0.1 one looks, over 0.2 it is an alarm.",
                plots.drift_plot(psi, [fold.fold for fold in evaluation.folds]),
            ),
        ),
        tables=(tables.psi_table(evaluation),),
    )
    yield Section(
        "Checks and settings",
        tables=(tables.checks_table(evaluation), tables.settings_table(evaluation)),
    )
