"""The committed model: served as it is, explained, small, and made again by one command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fraudstream.engines.golden import check_golden, within
from fraudstream.engines.protocol import GOLDEN_TOLERANCE, Precision
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.models.artefact import Artefact, read_artefact
from fraudstream.models.open_engine import open_engine
from harness.processes import PROJECT_FOLDER

MODELS = PROJECT_FOLDER / "models"
REBUILD = "train --model lstm --config training/configs/demo.toml --name demo --track off"
_MAX_BYTES = 2_000_000


@pytest.fixture(scope="module")
def demo() -> Artefact:
    """The committed artefact, through all checks of the loader."""
    return read_artefact(MODELS / "demo")


def test_demo_model_is_small() -> None:
    """It is in the repository, so it stays under 2 MB."""
    assert sum(file.stat().st_size for file in (MODELS / "demo").iterdir()) < _MAX_BYTES


def test_demo_model_reproduces_its_golden_rows(demo: Artefact) -> None:
    """ONNX Runtime gives PyTorch's raw scores, in every bucket."""
    assert len(demo.golden.raw_scores) == 256
    check_golden(open_engine(demo), demo.golden, within(GOLDEN_TOLERANCE[Precision.FP32]))


def test_golden_rows_span_the_scores(demo: Artefact) -> None:
    """Rows that are all alike would prove little."""
    assert demo.golden.raw_scores.min() < 0.01
    assert demo.golden.raw_scores.max() > 0.9
    assert np.isnan(demo.golden.vectors).any()


def test_every_feature_can_be_a_reason(demo: Artefact) -> None:
    """Each feature is in exactly one group, and each group has its usual values."""
    grouped = [name for group in demo.manifest.reason_groups for name in group.features]

    assert sorted(grouped) == sorted(FEATURE_NAMES)


def test_manifest_states_what_was_measured(demo: Artefact) -> None:
    """Between the baselines that the issue asks for, and calibrated."""
    metrics = demo.manifest.metrics

    assert 0.5 < metrics["ap"] < 0.9
    assert 0.5 < metrics["boosting_ap"] < 0.9
    assert metrics["ece"] < 0.002
    assert metrics["decline_precision"] > 0.8


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_demo_model_is_made_again_by_one_command(demo: Artefact, tmp_path: Path) -> None:
    """The documented command gives the same AP within 0.01, of the model and of its baseline."""
    pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")
    command = [sys.executable, "-m", "training", *REBUILD.split(), "--out", str(tmp_path / "demo")]
    made = subprocess.run(command, capture_output=True, check=True, text=True, cwd=MODELS.parent)

    found = json.loads(made.stdout)
    for figure in ("ap", "boosting_ap"):
        assert found[figure] == pytest.approx(demo.manifest.metrics[figure], abs=0.01), figure
