"""The Handbook's protocol from configurations to figures, with networks and their ensemble."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.models.test_training_set import write_handbook
from training.cli import run

pytestmark = pytest.mark.slow

_NETWORK = "[network]\nhidden = 8\nlayers = 1\nheads = 1\n[fit]\nepochs = 1\nbatch_rows = 64\n"
_ENSEMBLE = """\
kind = "ensemble"
members = [{config = "lstm.toml", weight = 0.5}, {config = "boosting.toml", weight = 0.5}]
"""


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configurations of models that learn in no time."""
    folder = tmp_path_factory.mktemp("configs")
    for kind in ("lstm", "transformer"):
        (folder / f"{kind}.toml").write_text(f'kind = "{kind}"\n{_NETWORK}')
    (folder / "boosting.toml").write_text('kind = "boosting"\n[boosting]\ntrees = 5\n')
    (folder / "ensemble.toml").write_text(_ENSEMBLE)
    return folder


@pytest.fixture(scope="module")
def figures(configs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the command wrote about a small file with the Handbook's columns."""
    folder = tmp_path_factory.mktemp("handbook")
    data = write_handbook(folder / "handbook.parquet", days=50, per_day=60)
    out = folder / "figures.json"
    run(
        [
            "evaluate",
            "--protocol=handbook",
            f"--data={data}",
            f"--configs={configs}",
            f"--json={out}",
            f"--work={folder / 'work'}",
            "--rounds=20",
        ]
    )
    assert not any((folder / "work" / "fits").iterdir())
    found: dict[str, object] = json.loads(out.read_text())
    return found


def test_every_model_is_shown_beside_the_baselines(figures: dict[str, dict[str, object]]) -> None:
    """From knowing nothing to the ensemble, each on the book's four test weeks."""
    assert list(figures["models"]) == [
        "prevalence",
        "amount rule",
        "logistic regression",
        "boosting",
        "lstm",
        "transformer",
        "ensemble",
    ]
    assert [fold["fold"] for fold in figures["folds"]] == [  # type: ignore[index]
        "2018-08-08",
        "2018-08-15",
        "2018-08-22",
        "2018-08-29",
    ]


def test_random_frauds_leave_every_model_at_chance(
    figures: dict[str, dict[str, dict[str, float]]],
) -> None:
    """The file's frauds are drawn by lot: a model that finds them knows what it cannot know."""
    prevalence = figures["models"]["prevalence"]["ap"]

    for name, model in figures["models"].items():
        assert model["ap"] < 5 * prevalence, name


def test_settings_are_those_of_the_files(figures: dict[str, dict[str, object]]) -> None:
    """Who repeats an evaluation needs to know what was evaluated."""
    settings = figures["settings"]

    assert settings["boosting"]["trees"] == 5  # type: ignore[index]
    assert settings["lstm"]["hidden"] == 8  # type: ignore[index]
    assert settings["ensemble"] == {"lstm": 0.5, "boosting": 0.5}


def test_the_ceiling_is_checked_on_the_test_folds(figures: dict[str, object]) -> None:
    """Four checks of the checklist, and that no model beats the oracle."""
    assert len(figures["checks"]) == 5  # type: ignore[arg-type]
