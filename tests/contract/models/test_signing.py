"""People, keys and signatures by command, and a scoring service that serves nothing unsigned."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from fraudstream.models.artefact import load_artefact
from fraudstream.models.repository import ModelRepository
from fraudstream.runtime.clock import epoch_ms
from fraudstream.signing import People
from harness.model_repository import DEMO_MODEL, PEOPLE, REPOSITORY, prepare_repository
from harness.processes import PROJECT_FOLDER
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.trust import model_settings
from training.cli import run

PROJECT = PROJECT_FOLDER


def add_person(folder: Path, name: str) -> int:
    """Make a trainer by command; return the exit code."""
    files = [f"--key={folder / name}.key", f"--people={folder}/people.json"]
    return run(["person", name, "--role=trainer", "--until=2199-12-31", *files])


def test_person_and_signature_by_command(tmp_path: Path) -> None:
    """Whoever holds a key signs; the file of people has the public half alone."""
    model = tmp_path / "model"
    tiny_artefact(model)
    (model / "signature.json").unlink()
    codes = [add_person(tmp_path, name) for name in ("ada", "grace")]
    signed = run(["sign", str(model), "--key", str(tmp_path / "grace.key")])

    people = People.load(tmp_path / "people.json")
    assert (codes, signed) == ([0, 0], 0)
    assert set(people.by_name) == {"ada", "grace"}
    assert stat.S_IMODE((tmp_path / "ada.key").stat().st_mode) == 0o400
    assert "private" not in (tmp_path / "people.json").read_text()
    assert load_artefact(model, people, epoch_ms()).manifest.name == "tiny"


def test_a_name_is_one_person(tmp_path: Path) -> None:
    """A second key under a known name would let one person pass for two: exit 78."""
    assert (add_person(tmp_path, "ada"), add_person(tmp_path, "ada")) == (0, 78)
    assert add_person(tmp_path, "No Name") == 78


def test_last_day_and_roles_of_a_person_can_be_changed(tmp_path: Path) -> None:
    """The key stays, so what it signed counts until the new day."""
    add_person(tmp_path, "ada")
    before = People.load(tmp_path / "people.json").by_name["ada"]
    people = f"--people={tmp_path}/people.json"

    assert run(["person", "ada", people, "--until=2200-12-31"]) == 0
    assert run(["person", "ada", people, "--role=approver"]) == 0

    after = People.load(tmp_path / "people.json").by_name["ada"]
    assert (after.public_key, after.until) == (before.public_key, "2200-12-31")
    assert after.roles == ("trainer", "approver")


def test_artefact_that_would_not_serve_is_not_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signature says that somebody checked: exit 65 for damage, and no signature."""
    model = tmp_path / "model"
    tiny_artefact(model)
    (model / "signature.json").unlink()
    (model / "lstm.onnx").write_bytes(b"")
    add_person(tmp_path, "ada")
    code = run(["sign", str(model), "--key", str(tmp_path / "ada.key")])

    assert code == 65
    assert "MODEL_CORRUPT" in capsys.readouterr().err
    assert not (model / "signature.json").exists()


def test_file_of_a_later_format_is_not_signed_and_is_told_in_the_library_s_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scoring could not open it: the message has what ONNX Runtime takes at most."""
    model = tmp_path / "model"
    tiny_artefact(model)
    (model / "signature.json").unlink()
    graph = onnx.load(model / "lstm.onnx")
    graph.ir_version = 99
    (model / "lstm.onnx").write_bytes(graph.SerializeToString())
    manifest = json.loads((model / "manifest.json").read_text())
    digest = hashlib.sha256((model / "lstm.onnx").read_bytes()).hexdigest()
    manifest["members"][0]["sha256"] = digest
    (model / "manifest.json").write_text(json.dumps(manifest))
    add_person(tmp_path, "ada")

    assert run(["sign", str(model), "--key", str(tmp_path / "ada.key")]) == 65

    said = capsys.readouterr().err
    assert "Unsupported model IR version: 99" in said
    assert not (model / "signature.json").exists()


def test_demo_model_is_promoted_by_two_people_of_the_line(tmp_path: Path) -> None:
    """The project holds no private key: each line makes two, and promotes a signed copy once."""
    prepare_repository(DEMO_MODEL, tmp_path)
    prepare_repository(DEMO_MODEL, tmp_path)  # a line that is prepared again

    people = People.load(tmp_path / PEOPLE)
    standing = ModelRepository(tmp_path / REPOSITORY, people, epoch_ms).read()
    assert str(standing.champion) == "demo/1"
    assert standing.head.sequence == 3
    assert len({entry.signer for entry in standing.champions} | {"demo-trainer"}) == 2


@pytest.mark.parametrize(
    ("damage", "code", "reason"),
    [
        ("unsigned", 77, "MODEL_UNTRUSTED"),
        ("expired", 77, "MODEL_UNTRUSTED"),
        ("cut short", 65, "MODEL_CORRUPT"),
        ("yaml", 78, "MODEL_CONFIG"),
        ("slow", 65, "MODEL_BUDGET"),
        ("nobody named", 78, "PEOPLE_FILE"),
    ],
)
def test_scoring_says_by_its_exit_code_why_it_does_not_start(
    tmp_path: Path, damage: str, code: int, reason: str
) -> None:
    """Refused before any connection is opened; there is no setting that serves it anyway."""
    model = tmp_path / "model"
    tiny_artefact(model)
    told = model_settings(model)
    (model,) = tmp_path.glob("repository/artefacts/tiny/*")
    for file in model.iterdir():
        file.chmod(0o644)
    if damage == "unsigned":
        (model / "signature.json").unlink()
    elif damage == "expired":
        people = json.loads((tmp_path / "people.json").read_text())
        people["people"][0]["until"] = "2020-01-01"
        (tmp_path / "people.json").write_text(json.dumps(people))
    elif damage == "cut short":
        (model / "lstm.onnx").write_bytes((model / "lstm.onnx").read_bytes()[:500])
    elif damage == "yaml":
        (model / "config.pbtxt").write_text("name: 'tiny'")
    elif damage == "slow":
        told["FRAUD_SCORING_MODEL_BATCH_MS"] = "0.0001"
    else:
        del told["FRAUD_SCORING_PEOPLE_FILE"]

    command, environment = [sys.executable, "-m", "services.scoring"], {**os.environ, **told}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=PROJECT, env=environment
    )
    assert done.returncode == code, done.stderr
    assert reason in done.stdout + done.stderr
