"""The model card, in the form that a bank's model-risk team asks for.

Its sections follow the supervisory guidance on model risk management (Federal Reserve SR 11-7 and
OCC 2011-12, 2011): purpose, design and soundness, data, testing and outcomes, comparison with
challengers, limits, monitoring, and who answers for it. What an evaluation cannot know (owner, use
in the bank, decisions) is left to be filled in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fraudstream.models.psi import ALARM, WATCH
from training.evaluation.figures.all_figures import ModelFigures
from training.evaluation.figures.segments import RECALL
from training.evaluation.report import tables
from training.evaluation.report.document import Document, Section, table_of
from training.evaluation.report.page import facts_of, summary_points
from training.evaluation.report.words import count, number, percent
from training.evaluation.result import Evaluation

_OPEN: Final = "to be filled in"
_METHODS: Final = {
    "prevalence": "Says the fraud share of what it learned from, of every transaction.",
    "amount rule": "Ranks transactions by their amount alone.",
    "logistic regression": "Logistic regression on the logarithms of the features, scaled by the"
    " training rows.",
    "boosting": "Gradient-boosted trees on the features of the transaction.",
    "lstm": "A recurrent network (LSTM) over the card's last transactions, beside the features.",
    "transformer": "A transformer encoder over the card's last transactions, beside the features.",
    "ensemble": "A weighted sum of its members' logits; see the settings for the members.",
}
_ROLES: Final = (
    ("Model developer", "built and documented the model"),
    ("Independent validator", "repeated the evaluation, challenges method and limits"),
    ("Model owner", "answers for its use, limits and monitoring"),
    ("Approver, model risk", "approves use, conditions and next review"),
)


def model_card(evaluation: Evaluation, subject: str) -> Document:
    """Return the card of one evaluated model."""
    model = evaluation.model(subject)
    return Document(
        title=f"Model card: {subject}",
        subtitle="Detection of card fraud at the moment of payment. Sections follow SR 11-7;"
        " figures come from the evaluation named below and can be made again by its command.",
        facts=facts_of(evaluation),
        sections=[
            *_purpose(evaluation, subject),
            *_design(evaluation, subject),
            *_outcomes(evaluation, model),
            *_control(evaluation, model),
        ],
    )


def _purpose(evaluation: Evaluation, subject: str) -> Iterator[Section]:
    yield Section("1. Summary", points=summary_points(evaluation, evaluation.model(subject)))
    yield Section(
        "2. Purpose and use",
        points=(
            "Purpose: gives each card transaction a calibrated probability of fraud, from which"
            " thresholds and rules make the decision to approve, challenge, review or decline.",
            "Users: the authorisation path and the analysts of the alert queue.",
            "Not for: credit decisions, pricing, marketing, or any judgement of a person. It judges"
            " a transaction against the card's own past.",
            "Without the model a stand-in decision by rules is made and marked as such.",
            f"Model owner, business line, materiality tier: {_OPEN}.",
        ),
    )


def _labels(evaluation: Evaluation) -> str:
    if evaluation.labels is None:
        return "Every transaction is labelled."
    return f"Of its rows {evaluation.labels.text()}."


def _design(evaluation: Evaluation, subject: str) -> Iterator[Section]:
    yield Section(
        "3. Data",
        paragraphs=(
            f"Source: {evaluation.material}, SHA-256 {evaluation.fingerprint}."
            f" {_labels(evaluation)} Features of a row read what had arrived before it, labels only"
            " when they were known.",
            "Exclusions: by the Handbook's protocol, cards known to be compromised are left out of"
            " the tests."
            if evaluation.protocol == "handbook"
            else "Exclusions: none; the first days only fill the windows of the features.",
        ),
        tables=(tables.folds_table(evaluation),),
    )
    yield Section(
        "4. Method",
        paragraphs=(_METHODS.get(subject, subject),),
        points=(
            "Inputs: the feature vector of the catalogue, and for sequence models the card's last"
            " transactions; no name, address, age, gender or card number is among them.",
            "Calibration: beta calibration (Kull et al. 2017), or Platt's (1999) where a slope is"
            " not positive; smooth and rising, fitted to late rows that the model did not learn"
            " from.",
            "Thresholds: chosen on the same late rows, never on tested ones.",
            f"Hyper-parameters: as {evaluation.configs} has them. This evaluation chooses none"
            " and cannot tell on which rows they were chosen.",
        ),
        tables=(tables.settings_table(evaluation),),
    )
    yield Section(
        "5. Conceptual soundness",
        points=(
            "Assumption: fraud differs from what the card, its terminal or its merchant did before."
            " A first fraud that looks like the card's own habits cannot be seen.",
            "Assumption: labels arrive within the label delay. Later ones count as genuine when the"
            " model learns, and make it too mild.",
            "Assumption: tomorrow resembles the last weeks; section 10 says how that is watched.",
        ),
    )


def _outcomes(evaluation: Evaluation, model: ModelFigures) -> Iterator[Section]:
    yield Section(
        "6. Performance",
        tables=(
            tables.operating_table([model]),
            tables.points_table("At alert budgets.", [model], [model.budgets]),
            tables.points_table("At false-positive rates.", [model], [model.rates]),
            tables.calibration_table([model]),
            tables.cost_table(evaluation),
            tables.delay_table([model]),
        ),
    )
    yield Section(
        "7. Comparison with challengers",
        paragraphs=(
            "All models learned from the same rows, have the same features at hand and were tested"
            " on the same transactions.",
        ),
        tables=(tables.ranking_table(evaluation), tables.by_fold_table(evaluation)),
    )
    yield Section(
        "8. Segments and fairness",
        paragraphs=(
            "Personal attributes are no inputs. Segments are those of the transaction, of how long"
            " the card is known, and of the columns that a training set keeps to test by (dataset"
            " --segments): a bank adds attributes there that it may use for testing.",
        ),
        tables=(tables.worst_table(model), tables.segments_table(model)),
    )


def _control(evaluation: Evaluation, model: ModelFigures) -> Iterator[Section]:
    yield Section("9. Limits", points=_limits(evaluation, model))
    yield Section(
        "10. Ongoing monitoring",
        points=(
            f"Drift: fraudstream training drift compares each feature and the score with what the"
            f" model learned from; PSI over {WATCH} is looked at, over {ALARM} it is an alarm.",
            "Calibration: on matured labels, mean score against fraud share; the same command.",
            "Alert volume, stand-in decisions and decision forks: metrics of the scoring service.",
            "Validate again: after an alarm, a change of features, data source or threshold, and"
            f" at the latest after: {_OPEN}.",
        ),
        tables=(tables.checks_table(evaluation),),
    )
    yield Section(
        "11. Change control",
        points=(
            "The artefact is signed; scoring refuses one whose signature, hashes or golden rows do"
            " not agree.",
            "A challenger is promoted only by two persons, after a paired test against the champion"
            " on matured labels; each step is an entry of a hash-chained ledger, signed by a"
            " person's own key.",
            "Rollback is one command and an entry of the same ledger.",
        ),
    )
    yield Section(
        "12. Sign-offs",
        tables=(
            table_of(
                "To be signed by persons of different functions; validation is independent of"
                " development.",
                _ROLES,
                ("role", lambda row: row[0]),
                ("responsibility", lambda row: row[1]),
                *((left, lambda _: "") for left in ("name", "decision", "date", "signature")),
                texts=6,
            ),
        ),
    )


def _limits(evaluation: Evaluation, model: ModelFigures) -> list[str]:
    thin = sum(found.is_thin(RECALL) for found in model.segments)
    flagged = [f"{worst.trait} {worst.label} ({worst.measure})" for worst in model.worst]
    flagged = [name for name, worst in zip(flagged, model.worst, strict=True) if worst.is_flagged]
    frauds = sum(fold.frauds for fold in evaluation.folds)
    missed = 1 - model.operating.recall
    points = [
        f"At the operating threshold {percent(missed)} of the frauds pass.",
        f"The figures rest on {count(frauds)} frauds. The standard deviation of AP over the folds"
        f" is {number(model.std('ap'))}: a smaller difference on one fold is noise.",
        f"{thin} of {len(model.segments)} segments have too few frauds to judge.",
        "Segments over 1.25 against all rows: " + ("; ".join(flagged) or "none") + ".",
    ]
    if evaluation.material.startswith("simulator"):
        points.append("The transactions are simulated: the figures are no forecast for a bank.")
    if evaluation.protocol == "handbook":
        points.append(
            "The Handbook's transactions are simulated, with three kinds of fraud; the figures"
            " compare methods and are no forecast for a bank."
        )
    return points
