"""What scoring serves: the champion of a verified ledger, to the byte, and nothing else."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings, ModelRefused
from fraudstream.models.repository import ModelRepository
from fraudstream.runtime.clock import epoch_ms
from fraudstream.signing import People
from harness.model_repository import serve_artefact
from services.scoring.inference.model_source import ModelSource
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.trust import BUDGET, PEOPLE, TWO


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    """A repository in which the tiny model is champion."""
    tiny_artefact(tmp_path / "model")
    serve_artefact(tmp_path / "model", tmp_path / "repository", TWO)
    return ModelRepository(tmp_path / "repository", PEOPLE, epoch_ms)


def champion_file(repository: ModelRepository, name: str) -> Path:
    """Return a file of the champion's artefact, made writable."""
    (path,) = repository.folder.glob(f"artefacts/tiny/1/{name}")
    path.chmod(0o644)
    return path


def refusal(repository: ModelRepository, head_file: Path | None = None) -> str:
    """Return why nothing is served."""
    with pytest.raises(ModelRefused) as refused:
        ModelSource(repository, BUDGET, head_file).load_champion()
    return str(refused.value)


def test_champion_is_served(repository: ModelRepository) -> None:
    """The model of the decisions is the one in the ledger."""
    model, engine = ModelSource(repository, BUDGET, None).load_champion()

    champion = repository.read().champion
    assert champion is not None
    assert model.model_hash == champion.manifest_sha256
    assert engine.version.startswith("onnxruntime-")


def test_empty_repository_serves_nothing(tmp_path: Path) -> None:
    """Nobody promoted anything: the start fails and says what to do."""
    nowhere = ModelRepository(tmp_path / "none", PEOPLE, epoch_ms)

    assert "no model is promoted yet" in refusal(nowhere)


@pytest.mark.parametrize("name", ["manifest.json", "signature.json", "lstm.onnx"])
def test_changed_artefact_is_not_served(repository: ModelRepository, name: str) -> None:
    """Each file is held by a hash or a signature."""
    path = champion_file(repository, name)
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))

    assert refusal(repository).startswith("MODEL_UNTRUSTED")


def test_changed_ledger_serves_nothing(repository: ModelRepository) -> None:
    """One byte of one old entry is enough."""
    content = bytearray(repository.ledger_bytes())
    content[content.index(b"first model")] ^= 1
    repository.ledger.write_bytes(content)

    assert "MODEL_" in refusal(repository)


def test_ledger_cut_behind_what_was_seen_serves_nothing(
    repository: ModelRepository, tmp_path: Path
) -> None:
    """Scoring keeps the head of its last start: an undone order is noticed."""
    head_file = tmp_path / "head.json"
    ModelSource(repository, BUDGET, head_file).load_champion()
    lines = repository.ledger_bytes().splitlines(keepends=True)
    repository.ledger.write_bytes(b"".join(lines[:-1]))

    assert "its tail was cut off" in refusal(repository, head_file)


def test_head_that_cannot_be_kept_is_a_setting(repository: ModelRepository, tmp_path: Path) -> None:
    """A reader that cannot remember does not start."""
    with pytest.raises(InvalidSettings, match="head cannot be kept"):
        ModelSource(repository, BUDGET, tmp_path / "none" / "head.json").load_champion()


def test_model_stays_when_its_trainer_leaves(repository: ModelRepository) -> None:
    """A signature counts on the day that it was given, not on the day of every start."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    people = [
        person.model_copy(update={"until": today}) if name == "trainer" else person
        for name, person in PEOPLE.by_name.items()
    ]
    later = ModelRepository(
        repository.folder, People.of(people), lambda: epoch_ms() + 400 * 86_400_000
    )

    model, _ = ModelSource(later, BUDGET, None).load_champion()

    assert model.model_hash


def test_artefact_of_another_trainer_is_not_served(
    repository: ModelRepository, tmp_path: Path
) -> None:
    """A good signature of somebody else: the two-person rule was about another person."""
    signature = champion_file(repository, "signature.json")
    other = TWO.approver.person(tuple(PEOPLE.by_name["trainer"].roles), "2199-12-31")
    people = People.of([PEOPLE.by_name["trainer"], other])
    manifest = champion_file(repository, "manifest.json").read_bytes()
    model_hash = hashlib.sha256(manifest).hexdigest().encode()
    signature.write_text(TWO.approver.sign("artefact", model_hash).model_dump_json())

    assert "is signed by 'approver'" in refusal(
        ModelRepository(repository.folder, people, epoch_ms)
    )
