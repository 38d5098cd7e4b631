"""A model's file: what it may say, and what a command line may say otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

from fraudstream.errors import InvalidSettings
from training.models.boosting import BoostingPlan
from training.search.search import toml_of
from training.train.config import (
    CONFIGS,
    ModelKind,
    Override,
    load_config,
    load_members,
    named_config,
)
from training.train.members import specs_of


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_file_of_the_project_is_read(path: Path) -> None:
    """Also the members of the ensemble."""
    config = load_config(path)

    assert len(load_members(path, config)) == len(config.members)


@pytest.mark.parametrize("kind", ModelKind)
def test_every_model_has_a_file(kind: ModelKind) -> None:
    """The command needs no --config."""
    assert named_config(kind.value, None)[1].kind is kind


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kind = 'oracle'", "kind: Input should be 'lstm'"),
        ("kind = 'lstm'\nepochs = 3", "epochs: Extra inputs are not permitted"),
        ("kind = 'lstm'\n[fit]\nepoch = 3", "fit.epoch: "),
        ("kind = 'lstm'\n[fit]\nepochs = 0", "fit.epochs: "),
        ("kind = 'lstm'\n[fit]\nbatch_rows = 0", "fit.batch_rows: "),
        ("kind = 'lstm'\n[fit]\ngenuine_share = 1.5", "fit.genuine_share: "),
        ("kind = 'lstm'\n[fit]\nlearning_rate = nan", "fit.learning_rate: "),
        ("kind = 'lstm'\n[fit]\nseed = -1", "fit.seed: "),
        ("kind = 'lstm'\n[pretrain]\nrows = 0", "pretrain.rows: "),
        ("kind = 'boosting'\n[boosting]\ntrees = -3", "boosting.trees: "),
        ("kind = 'lstm'\n[network]\nhidden = 12", "expected a multiple of 2 x heads"),
        ("kind = 'ensemble'", "members: expected some for an ensemble"),
        ("kind = 'lstm'\n[[members]]\nconfig = 'a.toml'\nweight = 1.0", "none for anything else"),
        ("kind = 'ensemble'\n[[members]]\nconfig = '../a.toml'\nweight = 1.0", "members.0.config"),
        ("kind =", "expected a TOML file of a model"),
        ("kind = " + "[" * 8_000, "expected a TOML file of a model"),
        ("a." * 100_000 + "b = 1", "more than 8192 bytes"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, why: str) -> None:
    """File, key, and what was expected."""
    path = tmp_path / "model.toml"
    path.write_text(text)

    with pytest.raises(InvalidSettings, match=r"model\.toml") as refusal:
        load_config(path)

    assert why in str(refusal.value)


def test_file_of_another_kind_is_refused() -> None:
    """--model and --config must agree."""
    with pytest.raises(InvalidSettings, match="expected a transformer, found a lstm"):
        named_config("transformer", CONFIGS / "lstm.toml")


def test_command_line_overrides_the_file() -> None:
    """Seed and epochs where they are given, threads always."""
    config = load_config(CONFIGS / "lstm.toml")

    found = Override(seed=7, epochs=1, threads=2).applied(config)

    assert (found.fit.seed, found.fit.epochs, found.fit.threads) == (7, 1, 2)
    assert Override().applied(config) == config


def test_trees_on_a_set_of_ones_own_are_those_of_the_file_for_it() -> None:
    """More and deeper ones there, the Handbook's everywhere else, members of an ensemble too."""
    path = CONFIGS / "ensemble.toml"
    own, book = (
        [(plan.trees, plan.depth) for plan in _trees_of(path, Override(is_own_set=is_own))]
        for is_own in (True, False)
    )

    assert own == [(400, 5)] * 2
    assert book == [(BoostingPlan().trees, BoostingPlan().depth)] * 2


def _trees_of(path: Path, override: Override) -> list[BoostingPlan]:
    """Return how trees grow alone and in an ensemble."""
    alone = override.applied(named_config("boosting", None)[1])
    members = {spec.name: spec.config for spec in specs_of(path, load_config(path), override)}
    return [alone.boosting, members["boosting"].boosting]


@pytest.mark.parametrize(
    ("override", "why"),
    [
        (Override(epochs=0), "fit.epochs"),
        (Override(threads=0), "fit.threads"),
        (Override(seed=-1), "fit.seed"),
    ],
)
def test_command_line_is_held_to_the_same_bounds(override: Override, why: str) -> None:
    """What a file may not say, a command line may not either."""
    with pytest.raises(InvalidSettings, match=f"--threads: {why}"):
        override.applied(load_config(CONFIGS / "lstm.toml"))


@pytest.mark.parametrize("kind", ["lstm", "transformer", "boosting"])
def test_found_settings_are_a_file_again(tmp_path: Path, kind: str) -> None:
    """What a search writes is what training reads."""
    config = Override().applied(named_config(kind, None)[1])
    (tmp_path / "found.toml").write_text(toml_of(config))

    assert load_config(tmp_path / "found.toml") == config
