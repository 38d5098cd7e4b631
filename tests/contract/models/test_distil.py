"""Distillation: a smaller network of the same promises, and what it costs beside its teacher."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudstream.models.artefact import read_artefact
from harness.processes import PROJECT_FOLDER
from training.cli import run

pytest.importorskip("torch", reason="PyTorch is not installed (extra: train)")

DEMO = PROJECT_FOLDER / "models" / "demo"


@pytest.mark.slow
def test_distil_command_prints_a_table_and_writes_a_smaller_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Teacher and student side by side, and the same student from labels alone."""
    out = tmp_path / "small"

    code = run(
        ["distil", str(DEMO), f"--out={out}", "--cards=60", "--days=30", "--epochs=1"],
    )

    printed = capsys.readouterr().out
    teacher, student = read_artefact(DEMO), read_artefact(out)
    assert code == 0
    assert len(student.files[0]) < len(teacher.files[0]) / 2
    for line in ("teacher     student", "average precision", "same rows at review", "labels alone"):
        assert line in printed
