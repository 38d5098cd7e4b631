"""A person who signs in tests, and what scoring is told so that the signature counts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from fraudstream.ready_engine import Budget
from fraudstream.signing import People, Signer, SignerRole

NOW_MS: Final = 1_767_571_200_000  # 2026-01-05
UNTIL: Final = "2199-12-31"
BUDGET: Final = Budget(batch_ms=10_000.0, growth_bytes=1 << 30)
TRAINER: Final = Signer("trainer", SigningKey(bytes(range(32))))
PEOPLE: Final = People.of([TRAINER.person([SignerRole.TRAINER], UNTIL)])


def people_file(model: Path) -> Path:
    """Return the file of people beside a model, written anew."""
    path = model.parent / "people.json"
    PEOPLE.save(path)
    return path


def model_settings(model: Path) -> dict[str, str]:
    """Return the variables that make a scoring process serve a model."""
    return {
        "FRAUD_SCORING_MODEL": str(model),
        "FRAUD_SCORING_PEOPLE_FILE": str(people_file(model)),
    }
