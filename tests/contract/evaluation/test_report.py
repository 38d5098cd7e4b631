"""The command, its JSON, and its pages: complete, self-contained, escaped, the same each time."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.worlds.evaluation_world import SETTINGS
from training.cli import run
from training.evaluation.report.document import (
    Cell,
    Document,
    Section,
    Table,
    html_of,
    markdown_of,
)
from training.train.config import CONFIGS

pytestmark = pytest.mark.slow

ARGUMENTS = [
    "evaluate",
    "--protocol=platform",
    "--source=simulator",
    f"--simulator-seed={SETTINGS.seed}",
    f"--cards={SETTINGS.cards}",
    f"--days={SETTINGS.days}",
    "--warm-days=10",
    "--rounds=50",
]
BASELINES = ["prevalence", "amount rule", "logistic regression", "boosting"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one evaluation's results."""
    folder = tmp_path_factory.mktemp("evaluation")
    _evaluate(folder, folder / "work")
    return folder


def _evaluate(folder: Path, work: Path, *arguments: str) -> int:
    return run(
        [
            *ARGUMENTS,
            *arguments,
            f"--json={folder / 'figures.json'}",
            f"--report={folder / 'report.html'}",
            f"--card={folder / 'card.md'}",
            f"--work={work}",
            "--models=boosting",
        ]
    )


def test_figures_have_every_model_with_its_folds(results: Path) -> None:
    """Each model has mean AP, AUC and CP@100, and the figures of at least four folds."""
    models = json.loads((results / "figures.json").read_text())["models"]

    assert list(models) == BASELINES
    for model in models.values():
        assert {"ap", "auc", "cp100", "folds", "ece", "brier_skill"} <= model.keys()
        assert len(model["folds"]) == 4
        folds = [fold["ap"] for fold in model["folds"]]
        assert model["ap"] == pytest.approx(sum(folds) / 4, abs=1e-6)


def test_boosting_beats_every_baseline_and_prevalence_knows_nothing(results: Path) -> None:
    """The order of the baselines is what it must be, or something is broken."""
    models = json.loads((results / "figures.json").read_text())["models"]

    assert models["boosting"]["ap"] > 3 * models["amount rule"]["ap"]
    assert models["prevalence"]["auc"] == 0.5


def test_recall_is_told_by_scheme_where_the_simulator_knows_it(results: Path) -> None:
    """Six schemes, and every fraud is of one."""
    boosting = json.loads((results / "figures.json").read_text())["models"]["boosting"]

    assert 4 <= len(boosting["schemes"]) <= 6
    assert sum(scheme["frauds"] for scheme in boosting["schemes"]) == sum(
        fold["frauds"] for fold in boosting["folds"]
    )


def test_known_cards_are_kept_and_shown_apart(results: Path) -> None:
    """What is found again on a known card is no new catch."""
    boosting = json.loads((results / "figures.json").read_text())["models"]["boosting"]

    parts = boosting["new_catches"]["alerts"], boosting["known_cards"]["alerts"]
    assert sum(parts) == boosting["operating"]["alerts"]


def test_figures_are_json_without_infinities(results: Path) -> None:
    """A threshold that flags nothing is null: JSON has no infinity."""
    text = (results / "figures.json").read_text()

    assert not re.search(r"\b(NaN|Infinity)\b", text)


def test_the_same_inputs_give_the_same_bytes(results: Path, tmp_path: Path) -> None:
    """Report, card and figures can be made again by anybody who doubts them."""
    _evaluate(tmp_path, results / "work")

    for name in ("figures.json", "report.html", "card.md", "card.html"):
        assert (tmp_path / name).read_bytes() == (results / name).read_bytes(), name


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            is_reference = name in {"src", "href", "xlink:href", "srcset", "data", "action"}
            if is_reference and value and not value.startswith("#"):
                self.outside.append(value)


@pytest.mark.parametrize("name", ["report.html", "card.html"])
def test_a_page_refers_to_nothing_outside_and_runs_nothing(results: Path, name: str) -> None:
    """It can be mailed, archived and opened in a closed network."""
    text = (results / name).read_text()
    found = _References()
    found.feed(text)

    assert found.outside == []
    assert not {"script", "link", "iframe", "object", "img"} & found.tags
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_report_has_its_plots_tables_and_baselines(results: Path) -> None:
    """Precision-recall, cost, calibration, segments and drift are drawn; baselines are there."""
    text = (results / "report.html").read_text()

    assert text.count("<svg") == 5
    for title in ("Ranking", "Cost", "Calibration", "Segments", "Fraud schemes", "Drift"):
        assert f">{title}</h2>" in text
    for model in BASELINES:
        assert f">{model}</th>" in text


def test_model_card_has_the_sections_that_model_risk_asks_for(results: Path) -> None:
    """SR 11-7: purpose, data, method, limits, performance, challengers, monitoring, sign-offs."""
    text = (results / "card.md").read_text()

    for section in (
        "Purpose and use",
        "Data",
        "Method",
        "Conceptual soundness",
        "Performance",
        "Comparison with challengers",
        "Limits",
        "Ongoing monitoring",
        "Sign-offs",
    ):
        assert re.search(rf"^## \d+\. {section}$", text, re.MULTILINE), section
    assert "simulated: the figures are no forecast" in text


def test_card_and_report_name_where_the_settings_come_from(results: Path, tmp_path: Path) -> None:
    """And claim no choice of them: on which rows they were chosen, an evaluation cannot know."""
    configs = tmp_path / "configs"
    shutil.copytree(CONFIGS, configs)

    _evaluate(tmp_path, results / "work", f"--configs={configs}")

    for name in ("card.html", "report.html"):
        text = (tmp_path / name).read_text()
        assert f"Settings, from {configs}." in text
        assert "chosen on folds" not in text
    card = (tmp_path / "card.html").read_text()
    assert f"as {configs} has them. This evaluation chooses none and cannot tell" in card


def test_text_is_escaped_in_html_and_in_markdown() -> None:
    """A file name may hold anything; it is shown and never obeyed."""
    name = "<script>alert(1)</script>|x*"
    page = Document("t", name, [Section("S", (name,), tables=(Table(name, (name,), [(name,)]),))])

    html, markdown = html_of(page), markdown_of(page)

    assert "<script>" not in html
    assert "<script>" not in markdown.replace("\\<", "")
    assert "\\|x\\*" in markdown


def test_what_deserves_a_look_is_marked_in_both_forms() -> None:
    """Colour alone says nothing to a printer or to Markdown."""
    page = Document("t", "s", [Section("S", tables=(Table("c", ("a",), [(Cell("9", "bad"),)]),))])

    assert 'class="words bad"' in html_of(page)
    assert "**9**" in markdown_of(page)


def test_an_unknown_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The message lists the models that there are."""
    assert run([*ARGUMENTS, "--models", "wonder"]) == 78
    assert "boosting" in capsys.readouterr().err


def test_the_simulator_has_no_handbook_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    """The book's folds are dates of its own file."""
    assert run(["evaluate", "--protocol=handbook", "--source=simulator"]) == 78
    assert "--protocol platform" in capsys.readouterr().err
