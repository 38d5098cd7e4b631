"""Folders that a setting names are looked at before anything begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings
from services.archive.cli import main as archive
from services.scoring.inference.model_source import open_repository
from services.scoring.settings import ScoringSettings


def _settings(model: Path, people: Path | None) -> ScoringSettings:
    return ScoringSettings.model_validate({"model": str(model), "people_file": people})


def test_artefact_in_place_of_a_repository_is_refused(tmp_path: Path) -> None:
    """It would serve stand-ins for ever; the message says how an artefact is put into one."""
    (tmp_path / "manifest.json").write_text("{}")

    with pytest.raises(InvalidSettings, match=r"training add .* --repository DIR.*promote"):
        open_repository(_settings(tmp_path, tmp_path / "people.json"), lambda: 0)


def test_people_file_that_is_not_set_is_said_so(tmp_path: Path) -> None:
    """Not that somebody is missing from a file that nobody named."""
    with pytest.raises(InvalidSettings, match="FRAUD_SCORING_PEOPLE_FILE is not set"):
        open_repository(_settings(tmp_path, None), lambda: 0)


def test_check_of_an_archive_that_is_not_there_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """66: a slip in the path looked like an archive without holes."""
    monkeypatch.setenv("FRAUD_ARCHIVE_ROOT", str(tmp_path / "archve"))

    assert archive(["check"]) == 66
    assert "archve is no folder" in capsys.readouterr().err
