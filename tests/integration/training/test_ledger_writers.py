"""Several processes write one ledger."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings, ModelRefused
from fraudstream.models.ledger_entry import ModelRef, Order
from fraudstream.models.repository import ModelRepository
from fraudstream.signing import People, Signer
from tests.worlds.promotion_world import PromotionWorld, promotion_world
from training.promotion.ledger_writer import LedgerWriter

WRITERS, ORDERS = 4, 10


@pytest.fixture
def world(tmp_path: Path) -> PromotionWorld:
    """An empty repository with a file of people."""
    world = promotion_world(tmp_path)
    world.people.save(tmp_path / "people.json")
    return world


def add_models(folder: Path, name: str) -> None:
    """Add versions of one model, as a process of its own."""
    repository = ModelRepository(
        folder / "repository", People.load(folder / "people.json"), lambda: 1_764_115_200_000
    )
    writer = LedgerWriter(repository, Signer.load(folder / "alice.key"))
    for version in range(1, ORDERS + 1):
        model = ModelRef(name=name, version=version, manifest_sha256="0" * 64)
        order = Order.model_validate(
            {"action": "add", "model": model, "why": "a test says so", "trainer": "alice"}
        )
        writer.append(lambda _, order=order: order)  # type: ignore[misc]  # bound in the loop


def test_writers_at_once_leave_one_chain(world: PromotionWorld, tmp_path: Path) -> None:
    """Each order follows the one before it, whoever wrote that."""
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=add_models, args=(tmp_path, f"model-{number}"))
        for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)

    standing = world.standing()

    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    assert standing.head.sequence == WRITERS * ORDERS
    assert len(standing.added) == WRITERS * ORDERS


def test_artefact_stays_what_it_was(world: PromotionWorld, tmp_path: Path) -> None:
    """The same artefact may be brought again; another under its version may not."""
    writer = LedgerWriter(world.repository, world.signers["alice"])
    source, place = tmp_path / "source", world.folder / "artefacts" / "lstm" / "1"
    source.mkdir()
    (source / "manifest.json").write_text("one")
    writer.place_artefact(source, place)
    writer.place_artefact(source, place)
    (source / "manifest.json").write_text("two")

    with pytest.raises(ModelRefused, match="another artefact has this name and version"):
        writer.place_artefact(source, place)

    assert (place / "manifest.json").read_text() == "one"
    assert [child.name for child in place.parent.iterdir()] == ["1"]


def test_repository_that_cannot_be_written_is_a_setting(
    world: PromotionWorld, tmp_path: Path
) -> None:
    """A file in the place of the folder says so."""
    world.folder.write_text("")

    with pytest.raises(InvalidSettings, match="the repository cannot be written"):
        LedgerWriter(world.repository, world.signers["alice"]).keep_evidence(b"{}")
