"""Promotions in a running line's model repository: versions of the model that it serves."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Final

from demo.model_repository import DEMO_MODEL, REPOSITORY, TwoPeople
from fraudstream.artefact import read_artefact, sign_artefact, write_artefact
from fraudstream.model_repository import ModelRepository
from training.promotion.desk import Desk
from training.promotion.gate import GateReport
from training.promotion.orders import add_artefact, promote, propose

_WHY: Final = "the same model once more"


class Promotions:
    """Promotes the demo's model again and again, each time as another version.

    Args:
        folder: Of the line, where its people and its repository are.
    """

    def __init__(self, folder: Path) -> None:
        two = TwoPeople.make(folder)
        repository = ModelRepository(
            folder / REPOSITORY, two.people, lambda: time.time_ns() // 1_000_000
        )
        self._trainer, self._approver = (
            Desk(repository, two.trainer),
            Desk(repository, two.approver),
        )
        self._two = two
        self._source = folder / "next-model"
        self._version = read_artefact(DEMO_MODEL).manifest.version

    def promote_next(self) -> str:
        """Make the next version champion; return its model hash."""
        demo = read_artefact(DEMO_MODEL)
        self._version += 1
        manifest = demo.manifest.model_copy(update={"version": self._version})
        files = zip((member.file for member in manifest.members), demo.files, strict=True)
        write_artefact(self._source, manifest, dict(files))
        sign_artefact(self._source, self._two.trainer)
        model_hash = read_artefact(self._source).model_hash
        standing = add_artefact(self._trainer, self._source, _WHY)
        shutil.rmtree(self._source)
        name, champion = f"{manifest.name}/{self._version}", str(standing.champion)
        propose(self._trainer, GateReport(name, champion, 0, 0, ()), _WHY)
        promote(self._approver, name, _WHY)
        return model_hash
