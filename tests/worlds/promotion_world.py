"""A model repository in a folder, with people who sign in it and artefacts of one line each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from fraudstream.errors import ModelRefused
from fraudstream.models.ledger_entry import LedgerAction, LedgerHead, ModelRef, Order
from fraudstream.models.promotion_rules import Standing
from fraudstream.models.repository import ModelRepository
from fraudstream.signing import People, Signer, SignerRole, make_signer
from training.promotion.ledger_writer import LedgerWriter

DAY_MS: Final = 86_400_000
START_MS: Final = 1_764_115_200_000  # 2025-11-26
EVIDENCE: Final = hashlib.sha256(b"measured").hexdigest()
_T, _A = SignerRole.TRAINER, SignerRole.APPROVER
_PEOPLE: Final = {
    "alice": ([_T, _A], "2026-12-31"),
    "bob": ([_A], "2026-12-31"),
    "carol": ([_A], "2026-12-31"),
    "dave": ([_T], "2026-12-31"),
    "erin": ([_A], "2025-11-20"),  # has left
}


@dataclass
class PromotionWorld:
    """A repository and its people.

    Attributes:
        folder: Of the repository.
        signers: By name; `mallory` is in no file of people.
        people: Everyone else.
        now_ms: Moves a second with every order.
    """

    folder: Path
    signers: dict[str, Signer]
    people: People
    now_ms: int = START_MS
    models: dict[str, ModelRef] = field(default_factory=dict)

    @property
    def repository(self) -> ModelRepository:
        """The repository as a reader sees it."""
        return ModelRepository(self.folder, self.people, lambda: self.now_ms)

    @property
    def ledger(self) -> bytes:
        """The ledger as it stands."""
        return self.repository.ledger_bytes()

    def standing(self, seen: LedgerHead | None = None) -> Standing:
        """Return what the ledger says."""
        return self.repository.read(seen)

    def order(self, who: str, action: str, model: str, **more: object) -> Standing:
        """Sign and append an order."""
        self.now_ms += 1_000
        fields = {"action": action, "model": self.models[model], "why": "a test says so", **more}
        order = Order.model_validate(fields)
        return LedgerWriter(self.repository, self.signers[who]).append(lambda _: order)

    def add(self, model: str, trainer: str = "alice") -> Standing:
        """Put an artefact in the repository."""
        name, version = model.split("/")
        folder = self.folder / "artefacts" / name / version
        folder.mkdir(parents=True)
        manifest = json.dumps({"name": name, "version": int(version)}).encode()
        (folder / "manifest.json").write_bytes(manifest)
        sha256 = hashlib.sha256(manifest).hexdigest()
        self.models[model] = ModelRef(name=name, version=int(version), manifest_sha256=sha256)
        return self.order(trainer, LedgerAction.ADD, model, trainer=trainer)

    def propose(self, model: str, who: str = "alice", **more: object) -> Standing:
        """Ask for a promotion."""
        fields = {"asks": "promote", "evidence": EVIDENCE, **more}
        return self.order(who, LedgerAction.PROPOSE, model, **fields)

    def promote(self, model: str, who: str = "bob", **more: object) -> Standing:
        """Approve a promotion."""
        return self.order(who, LedgerAction.PROMOTE, model, **{"evidence": EVIDENCE, **more})

    def canary(self, model: str, who: str = "bob", **more: object) -> Standing:
        """Approve a promotion for some cards."""
        fields = {"evidence": EVIDENCE, "share_permille": 50, **more}
        return self.order(who, LedgerAction.CANARY, model, **fields)

    def roll_back(self, model: str, who: str = "carol") -> Standing:
        """Go back to a model."""
        return self.order(who, LedgerAction.ROLLBACK, model)

    def retire(self, model: str, who: str = "carol") -> Standing:
        """End a model."""
        return self.order(who, LedgerAction.RETIRE, model)

    def crown(self, model: str) -> Standing:
        """Add, propose and promote a model."""
        self.add(model)
        self.propose(model)
        return self.promote(model)

    def refusal(self, call: str, *arguments: object, **more: object) -> tuple[str, str]:
        """Return the reason and the message of an order that is refused."""
        before = self.ledger
        with pytest.raises(ModelRefused) as refused:
            getattr(self, call)(*arguments, **more)
        assert self.ledger == before, "a refused order leaves the ledger as it was"
        return refused.value.reason, str(refused.value)


def promotion_world(folder: Path) -> PromotionWorld:
    """Return a world with an empty repository."""
    folder.mkdir(parents=True, exist_ok=True)
    signers = {name: make_signer(folder / f"{name}.key", name) for name in [*_PEOPLE, "mallory"]}
    people = People.of([signers[name].person(*what) for name, what in _PEOPLE.items()])
    return PromotionWorld(folder / "repository", signers, people)
