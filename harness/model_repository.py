"""The model that a line serves, promoted in a model repository of the line's own by its own people.

No private key is in the project. A line makes two people with keys in its folder, one who trained
the model and proposes it and one who approves it, and its scoring trusts those two alone.
`python -m harness.model_repository DIR` makes such a folder for servers that stay.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from fraudstream.models.artefact import read_artefact, sign_artefact
from fraudstream.models.repository import ModelRepository
from fraudstream.runtime.clock import epoch_ms
from fraudstream.signing import People, Signer, SignerRole, make_signer
from training.promotion.gate import GateReport
from training.promotion.ledger_writer import LedgerWriter
from training.promotion.orders import add_artefact, promote, propose

DEMO_MODEL: Final = Path(__file__).parents[1] / "models" / "demo"
REPOSITORY: Final = "models"
PEOPLE: Final = "people.json"
HEAD: Final = "model-head.json"
_TRUSTED_FOR: Final = timedelta(days=90)
_WHY: Final = "the first model of a demo"


@dataclass(frozen=True, slots=True)
class TwoPeople:
    """Who promotes a model: no one alone can.

    Attributes:
        trainer: Signs the artefact, and proposes it.
        approver: Approves it.
        people: Both, as others know them.
    """

    trainer: Signer
    approver: Signer
    people: People

    @classmethod
    def of(cls, trainer: Signer, approver: Signer, until: str) -> Self:
        """Return two people whose signatures count until a day; one may publish rules, too."""
        first = [SignerRole.TRAINER, SignerRole.APPROVER]
        second = [SignerRole.APPROVER, SignerRole.PUBLISHER]
        known = [trainer.person(first, until), approver.person(second, until)]
        return cls(trainer, approver, People.of(known))

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Return the people of a folder, with their keys in it; made where they are missing."""
        until = (datetime.now(UTC) + _TRUSTED_FOR).date().isoformat()
        trainer, approver = (
            Signer.load(key) if key.exists() else make_signer(key, f"demo-{key.stem}")
            for key in (folder / "trainer.key", folder / "approver.key")
        )
        return cls.of(trainer, approver, until)


def prepare_repository(model: Path, folder: Path) -> None:
    """Make a folder's people, and a repository in it that serves one artefact.

    Raises:
        ModelRefused: The artefact would not be served.
    """
    two = TwoPeople.make(folder)
    two.people.save(folder / PEOPLE)
    if serve_artefact(model, folder / REPOSITORY, two):
        (folder / HEAD).unlink(missing_ok=True)  # of the ledger that was here before


def serve_artefact(model: Path, repository: Path, two: TwoPeople) -> bool:
    """Make a repository in which an artefact is champion; return whether it was made now.

    Raises:
        ModelRefused: The artefact would not be served.
    """
    found = ModelRepository(repository, two.people, epoch_ms)
    wanted = read_artefact(model).model_hash
    champion = found.read().champion
    if champion is not None and champion.manifest_sha256 == wanted:
        return False
    shutil.rmtree(repository, ignore_errors=True)
    signed = repository.with_name(f"{repository.name}.signed")
    shutil.copytree(model, signed, dirs_exist_ok=True)
    sign_artefact(signed, two.trainer)
    trainer, approver = LedgerWriter(found, two.trainer), LedgerWriter(found, two.approver)
    (name,) = add_artefact(trainer, signed, _WHY).added
    shutil.rmtree(signed)
    # Nothing is live yet: there is no champion that it could be measured against.
    propose(trainer, GateReport(name, None, 0, 0, ()), _WHY)
    promote(approver, name, _WHY)
    return True


def main(arguments: Sequence[str]) -> int:
    """Make a folder with people and a repository that serves the demo's model."""
    folder = Path(*arguments)
    folder.mkdir(parents=True, exist_ok=True)
    prepare_repository(DEMO_MODEL, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
