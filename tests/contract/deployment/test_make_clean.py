"""`make clean` over a planted tree: what nobody can make again stays."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.processes import PROJECT_FOLDER

KEPT = (
    "var/models/ledger/000001.json",
    "var/models/artefacts/m/1/model.onnx",
    "var/archive/decisions/date=2026-01-01/part.parquet",
    "var/console.sqlite3",
    "var/mlflow.db",
    "var/optuna.db",
    "var/demo/models/handbook-2018-07-25/manifest.json",
    "out/my-model/manifest.json",
    "token-keys.json",
    "signing.key",
)
REMOVED = (
    "build/load.html",
    "dist/fraudstream.whl",
    ".mypy_cache/x",
    "fraudstream/__pycache__/x.pyc",
    "var/demo/20260101-101500/console.sqlite3",
    "var/demo/replay-20260101-101500/logs/ingest.log",
    "var/demo/running.json",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project folder after weeks of use."""
    for name in (*KEPT, *REMOVED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    makefile = PROJECT_FOLDER / "Makefile"
    command = ["make", "-C", str(tmp_path), "-f", str(makefile), "clean"]
    subprocess.run(command, check=True, capture_output=True)
    return tmp_path


def test_clean_keeps_ledgers_archives_models_databases_and_keys(tree: Path) -> None:
    """They lie where the settings' defaults put them."""
    assert [name for name in KEPT if not (tree / name).exists()] == []


def test_clean_removes_caches_builds_and_runs_of_the_demo(tree: Path) -> None:
    """All of it is made again by its command."""
    assert [name for name in REMOVED if (tree / name).exists()] == []
