"""The model that a line serves: a copy of an artefact, signed by a person made for this line.

No private key is in the repository. A line makes one, keeps it in its own folder, and its scoring
trusts that person alone.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from fraudstream.artefact import sign_artefact
from fraudstream.signing import People, Signer, SignerRole, make_signer

_TRAINER: Final = "demo-trainer"
_TRUSTED_FOR: Final = timedelta(days=90)
MODEL: Final = "model"
PEOPLE: Final = "people.json"


def sign_copy(model: Path, folder: Path) -> None:
    """Copy an artefact into a line's folder and sign it; name the person in its file of people.

    Raises:
        ModelRefused: The artefact would not be served.
    """
    key = folder / "trainer.key"
    signer = Signer.load(key) if key.exists() else make_signer(key, _TRAINER)
    until = (datetime.now(UTC) + _TRUSTED_FOR).date().isoformat()
    People.of([signer.person([SignerRole.TRAINER], until)]).save(folder / PEOPLE)
    shutil.rmtree(folder / MODEL, ignore_errors=True)
    shutil.copytree(model, folder / MODEL)
    sign_artefact(folder / MODEL, signer)
