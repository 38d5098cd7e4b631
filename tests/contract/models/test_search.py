"""The search: a study goes on for the same rows and settings, and only for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fraudstream.errors import InvalidSettings
from tests.fakes.tiny_model import some_sequences, some_vectors

pytest.importorskip("optuna", reason="Optuna is not installed (extra: train)")
pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from training.dataset import Examples
from training.models.boosting import BoostingPlan
from training.models.plan import PretrainPlan
from training.search.search import Found, Judged, search, toml_of
from training.train.config import ModelKind, TrainConfig, load_config  # after the skip
from training.train.slices import Slices

BASE = TrainConfig(kind=ModelKind.BOOSTING, boosting=BoostingPlan(trees=2))
ROWS = 400


@pytest.fixture(scope="module")
def judged() -> list[Judged]:
    """One range and its judge; amounts tell the frauds."""
    numbers = np.arange(ROWS, dtype=np.int64)
    vectors = some_vectors(ROWS, 4)
    is_fraud = np.nan_to_num(vectors[:, 0]) > 40
    rows = Examples(vectors, some_sequences(ROWS), is_fraud, numbers, numbers, numbers, numbers)
    early, late = rows.between(0, 300), rows.between(300, ROWS)
    return [Judged(Slices(early, early, early, late, early, early), late)]


def found(tmp_path: Path, judged: Sequence[Judged], trials: int, base: TrainConfig = BASE) -> Found:
    """Search on in the one file of studies."""
    return search(base, judged, trials, f"sqlite:///{tmp_path}/studies.db", lambda _: None)


def test_study_goes_on_with_the_same_rows_and_settings(
    tmp_path: Path, judged: list[Judged]
) -> None:
    """A search that was ended loses nothing; one on other rows or settings begins again."""
    turned = replace(judged[0].later, is_fraud=~judged[0].later.is_fraud)
    other = BASE.model_copy(update={"boosting": BoostingPlan(trees=3)})

    assert found(tmp_path, judged, 2).trials == 2
    assert found(tmp_path, judged, 1).trials == 3
    assert found(tmp_path, [replace(judged[0], later=turned)], 1).trials == 1
    assert found(tmp_path, judged, 1, other).trials == 1


def test_search_finds_settings_that_rank_the_judge(tmp_path: Path, judged: list[Judged]) -> None:
    """Its AP is that of the configuration it returns, above chance."""
    best = found(tmp_path, judged, 2)

    assert best.ap > 2 * judged[0].later.is_fraud.mean()
    assert best.config.boosting.trees >= 50


def test_search_without_a_trial_is_refused(tmp_path: Path, judged: list[Judged]) -> None:
    """There is no best of none."""
    with pytest.raises(InvalidSettings, match="--trials"):
        found(tmp_path, judged, 0)


def test_pretraining_is_part_of_what_was_found(tmp_path: Path) -> None:
    """The file says all that was judged."""
    config = TrainConfig(kind=ModelKind.LSTM, pretrain=PretrainPlan(rows=7))
    (tmp_path / "found.toml").write_text(toml_of(config))

    assert load_config(tmp_path / "found.toml") == config
