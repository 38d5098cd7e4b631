"""Boosted trees as a member: XGBoost's own scores, from the same inputs as a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fraudstream.engines.golden import GoldenRows
from fraudstream.engines.members import Formula
from fraudstream.engines.onnx_engine import OnnxEngine
from fraudstream.engines.protocol import FloatArray, score_rows
from fraudstream.errors import ModelRefused
from fraudstream.models.artefact import load_artefact, sign_artefact, write_artefact
from fraudstream.models.manifest import Member, MemberKind, golden_text
from fraudstream.models.open_engine import open_engine, ready_engine
from tests.fakes.tiny_model import (
    FEATURES,
    lstm_member,
    onnx_bytes,
    some_sequences,
    some_vectors,
    tiny_manifest,
    tiny_weights,
)
from tests.worlds.trust import BUDGET, NOW_MS, PEOPLE, TRAINER

pytest.importorskip("xgboost", reason="XGBoost is not installed (extra: train)")

import xgboost  # after the skip

from training.dataset import Examples
from training.train.export import member_of
from training.train.export_trees import export_trees

CODES_FROM = 2
ROWS = 400


def columns_of(examples: Examples) -> FloatArray:
    """Return what the trees read: the vector, and the codes of the last step."""
    return np.concatenate([examples.vectors, examples.sequences[:, -1, CODES_FROM:]], axis=1)


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Rows with missing values whose truth hangs on a value, a gap and a code."""
    vectors, sequences = some_vectors(ROWS), some_sequences(ROWS)
    numbers = np.arange(ROWS, dtype=np.int64)
    is_fraud = (np.nan_to_num(vectors[:, 0], nan=50.0) > 12) & (sequences[:, -1, 2] > 2)
    return Examples(vectors, sequences, is_fraud, numbers, numbers, numbers, numbers)


@pytest.fixture(scope="module")
def trees(examples: Examples) -> xgboost.XGBClassifier:
    """Trees that learned it."""
    model = xgboost.XGBClassifier(n_estimators=40, max_depth=3, base_score=0.5, random_state=1)
    return model.fit(columns_of(examples), examples.is_fraud)


@pytest.fixture(scope="module")
def exported(trees: xgboost.XGBClassifier, examples: Examples) -> bytes:
    """The trees as ONNX."""
    return export_trees(trees, CODES_FROM, examples, scores_of(trees, examples))


def scores_of(trees: xgboost.XGBClassifier, examples: Examples) -> FloatArray:
    """Return XGBoost's own scores."""
    return np.asarray(trees.predict_proba(columns_of(examples))[:, 1], np.float32)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_onnx_gives_xgboosts_scores_with_values_missing(
    trees: xgboost.XGBClassifier, exported: bytes, batch: int
) -> None:
    """NaN goes the way that each cut learned: fp32 within 1e-6, in any batch."""
    vectors, sequences = some_vectors(200, seed=5), some_sequences(200, seed=6)
    vectors[:9] = np.nan
    empty = np.zeros(200, np.int64)
    others = Examples(vectors, sequences, empty > 0, empty, empty, empty, empty)
    found = score_rows(OnnxEngine(exported), vectors, sequences, batch)

    assert np.isnan(vectors).mean() > 0.05
    assert np.max(np.abs(found - scores_of(trees, others))) <= 1e-6


def test_trees_of_other_scores_are_not_exported(
    trees: xgboost.XGBClassifier, examples: Examples
) -> None:
    """An export that is another function is refused where it is made."""
    with pytest.raises(ModelRefused, match="MODEL_GOLDEN"):
        export_trees(trees, CODES_FROM, examples, scores_of(trees, examples) + np.float32(1e-3))


@pytest.fixture
def ensemble(tmp_path: Path, exported: bytes, examples: Examples) -> Path:
    """An artefact of the tiny LSTM and the trees, signed."""
    lstm = onnx_bytes(tiny_weights())
    members = (
        lstm_member(lstm).model_copy(update={"weight": 0.7}),
        member_of("boosting", MemberKind.BOOSTING, exported, weight=0.5),
    )
    return write_ensemble(tmp_path / "both", members, (lstm, exported), examples)


def write_ensemble(
    folder: Path, members: tuple[Member, ...], files: tuple[bytes, ...], examples: Examples
) -> Path:
    """Write and sign an artefact of some members, with a bias of -0.25."""
    vectors, sequences = examples.vectors[:64], examples.sequences[:64]
    formula = Formula(tuple(member.weight for member in members), -0.25)
    scores = formula.combine([OnnxEngine(file).score(vectors, sequences) for file in files])
    manifest = tiny_manifest(files[0]).model_copy(
        update={
            "members": members,
            "bias": -0.25,
            "golden": golden_text(GoldenRows(vectors, sequences, scores)),
        }
    )
    write_artefact(folder, manifest, dict(zip((m.file for m in members), files, strict=True)))
    sign_artefact(folder, TRAINER)
    return folder


def test_ensemble_adds_the_log_odds_of_its_members(ensemble: Path, exported: bytes) -> None:
    """Raw = sigmoid(bias + sum of weight x logit), computed here by hand."""
    engine = ready_engine(load_artefact(ensemble, PEOPLE, NOW_MS), BUDGET)
    vectors, sequences = some_vectors(8, seed=9), some_sequences(8, seed=9)
    lstm = OnnxEngine(onnx_bytes(tiny_weights())).score(vectors, sequences).astype(np.float64)
    trees = OnnxEngine(exported).score(vectors, sequences).astype(np.float64)
    odds = (lstm / (1 - lstm)) ** 0.7 * (trees / (1 - trees)) ** 0.5 * np.exp(-0.25)

    assert engine.score(vectors, sequences) == pytest.approx(odds / (1 + odds), abs=1e-6)


def test_lone_member_keeps_its_scores_to_the_bit(tmp_path: Path) -> None:
    """One member with weight 1 and bias 0 is its own output."""
    lstm = onnx_bytes(tiny_weights())
    artefact = write_artefact(tmp_path / "one", tiny_manifest(lstm), {"lstm.onnx": lstm})
    vectors, sequences = some_vectors(16), some_sequences(16)

    found = open_engine(artefact).score(vectors, sequences)
    assert found.tobytes() == OnnxEngine(lstm).score(vectors, sequences).tobytes()


def test_trees_pass_for_nothing_but_boosting(ensemble: Path, exported: bytes) -> None:
    """M6: a member of another kind may hold no trees."""
    manifest = load_artefact(ensemble, PEOPLE, NOW_MS).manifest
    lstm, boosting = manifest.members
    posing = manifest.model_copy(
        update={"members": (lstm, boosting.model_copy(update={"kind": MemberKind.TRANSFORMER}))}
    )

    with pytest.raises(ModelRefused, match="MODEL_OPS"):
        write_artefact(ensemble, posing, {boosting.file: exported})


def test_trees_read_the_features_by_their_place(
    trees: xgboost.XGBClassifier, examples: Examples, exported: bytes
) -> None:
    """Another order of columns is another model: the export keeps the vector's."""
    turned = replace(examples, vectors=examples.vectors[:, ::-1].copy())
    found = score_rows(OnnxEngine(exported), turned.vectors, turned.sequences)

    assert len(FEATURES) == examples.vectors.shape[1]
    assert np.max(np.abs(found - scores_of(trees, turned))) <= 1e-6
    assert np.max(np.abs(found - scores_of(trees, examples))) > 0.01
