"""A model repository that grows while scoring serves from it: versions of the tiny model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fraudstream.models.artefact import Artefact
from fraudstream.models.ledger_entry import LedgerAction
from fraudstream.models.promotion_rules import Standing
from fraudstream.models.repository import ModelRepository
from fraudstream.runtime.clock import epoch_ms
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.trust import PEOPLE, RULES, TWO
from training.promotion.gate import GateReport
from training.promotion.ledger_writer import LedgerWriter
from training.promotion.orders import (
    add_artefact,
    place,
    promote,
    propose,
    roll_back,
    start_canary,
)

_WHY = "a test says so"


@dataclass
class ModelLine:
    """Versions of one model in a repository, and who gives orders about them.

    Attributes:
        folder: Of the test.
        artefacts: By version.
    """

    folder: Path
    artefacts: dict[int, Artefact] = field(default_factory=dict)

    @property
    def repository(self) -> ModelRepository:
        """The repository."""
        return ModelRepository(self.folder / "repository", PEOPLE, epoch_ms)

    @property
    def trainer(self) -> LedgerWriter:
        """Where the trainer signs."""
        return LedgerWriter(self.repository, TWO.trainer)

    @property
    def approver(self) -> LedgerWriter:
        """Where the approver signs."""
        return LedgerWriter(self.repository, TWO.approver)

    def settings(self) -> dict[str, Any]:
        """Return settings of scoring by name that serve this repository."""
        people = self.folder / "people.json"
        PEOPLE.save(people)
        self.repository.folder.mkdir(parents=True, exist_ok=True)
        return {"model": str(self.repository.folder), "people_file": str(people), **RULES}

    def add(self, version: int, **made: object) -> str:
        """Make a version and add it; return its name. Its scores move with its version."""
        source = self.folder / f"v{version}"
        told = {"bias": version / 10, **made}
        self.artefacts[version] = tiny_artefact(source, version=version, **told)  # type: ignore[arg-type]
        add_artefact(self.trainer, source, _WHY)
        return f"tiny/{version}"

    def propose(self, name: str) -> Standing:
        """Propose a promotion."""
        champion = self.repository.read().champion
        report = GateReport(name, str(champion) if champion else None, 0, 0, ())
        return propose(self.trainer, report, _WHY)

    def promote(self, version: int, **made: object) -> Standing:
        """Make a version and make it champion."""
        name = self.add(version, **made)
        self.propose(name)
        return promote(self.approver, name, _WHY)

    def approve(self, name: str) -> Standing:
        """Make a proposed version champion."""
        return promote(self.approver, name, _WHY)

    def canary(self, name: str, share_permille: int) -> Standing:
        """Let a proposed version decide some cards."""
        return start_canary(self.approver, name, share_permille, _WHY)

    def roll_back(self) -> Standing:
        """Undo the last change."""
        return roll_back(self.approver, None, _WHY)

    def shadow(self, name: str) -> Standing:
        """Let a version score what others decide."""
        return place(self.approver, LedgerAction.SHADOW, name, _WHY)

    def retire(self, name: str) -> Standing:
        """End a version."""
        return place(self.approver, LedgerAction.RETIRE, name, _WHY)

    def member_of(self, version: int) -> Path:
        """Return the ONNX file of a version in the repository, made writable."""
        file = self.repository.folder / "artefacts" / "tiny" / str(version) / "lstm.onnx"
        file.chmod(0o644)
        return file
