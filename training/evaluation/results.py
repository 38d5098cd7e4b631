"""Where an evaluation's results go: a few lines for the terminal, JSON, report and model card."""

from __future__ import annotations

from argparse import Namespace

from fraudstream.errors import InvalidSettings
from training.evaluation.report.card import model_card
from training.evaluation.report.document import html_of, markdown_of
from training.evaluation.report.page import report_page
from training.evaluation.report.words import interval, spread
from training.evaluation.result import Evaluation, write_text
from training.evaluation.run import Run


def show(evaluation: Evaluation) -> str:
    """Return the headline figures as a table of text, with the failed checks."""
    form = "{:<22} {:>15} {:>17} {:>15} {:>15} {:>9} {:>7}"
    lines = [form.format("model", "AP", "95 % interval", "AUC", "CP@100", "ECE", "skill")]
    lines += [
        form.format(
            model.name,
            spread(model.mean("ap"), model.std("ap")),
            interval(model.ap_interval),
            spread(model.mean("auc"), model.std("auc")),
            spread(model.mean("cp100"), model.std("cp100")),
            f"{model.after.ece:.5f}",
            f"{model.after.brier_skill:.3f}",
        )
        for model in evaluation.models
    ]
    empty = [fold.fold for fold in evaluation.folds if not fold.frauds]
    if empty:
        lines.append(f"without frauds, so left out of the means: {', '.join(empty)}")
    failed = [check for check in evaluation.checks if check.is_failed]
    lines += [f"LEAKAGE  {check.name}: {check.found}" for check in failed]
    not_run = [check for check in evaluation.checks if check.is_passed is None]
    lines += [f"not run  {check.name}: {check.found}" for check in not_run]
    return "\n".join(lines)


def check_names(parsed: Namespace) -> None:
    """Refuse names of results of which one would be written over another.

    Raises:
        InvalidSettings: The card's page has the report's name.
    """
    if parsed.card is None:
        return
    page = parsed.card.with_suffix(".html")
    if page in (parsed.report, parsed.json, parsed.card):
        msg = f"--card: expected a name whose page {page} is no other result's"
        raise InvalidSettings(f"{msg}, such as {parsed.card.stem}-card.md")


def write_results(evaluation: Evaluation, run: Run, parsed: Namespace) -> None:
    """Write what the command line asks for.

    Raises:
        InvalidSettings: The model of the card was not evaluated.
    """
    subject = parsed.card_model or evaluation.models[-1].name
    if subject not in run.scores:
        msg = f"--card-model: expected one of {', '.join(run.scores)}, found {subject}"
        raise InvalidSettings(msg)
    if parsed.json is not None:
        write_text(parsed.json, evaluation.text())
    if parsed.report is not None:
        write_text(parsed.report, report_page(evaluation, run, subject))
    if parsed.card is not None:
        card = model_card(evaluation, subject)
        write_text(parsed.card, markdown_of(card))
        write_text(parsed.card.with_suffix(".html"), html_of(card))
