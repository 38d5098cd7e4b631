"""Two people who sign in tests, and a repository that serves what they promoted."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from fraudstream.models.open_engine import Budget
from fraudstream.signing import People, Signer
from harness.model_repository import TwoPeople, serve_artefact

NOW_MS: Final = 1_767_571_200_000  # 2026-01-05
UNTIL: Final = "2199-12-31"
TRAINER: Final = Signer("trainer", SigningKey(bytes(range(32))))
APPROVER: Final = Signer("approver", SigningKey(bytes(range(32, 64))))
TWO: Final = TwoPeople.of(TRAINER, APPROVER, UNTIL)
PEOPLE: Final[People] = TWO.people
RULES_FILE: Final = Path(__file__).with_name("rules.toml")
RULES: Final = {"rule_set_file": str(RULES_FILE)}
# A busy machine under test is no reason to refuse a model.
BUDGET: Final = Budget(batch_ms=10_000.0, growth_bytes=1 << 30)


def served(model: Path) -> dict[str, str]:
    """Return settings of scoring by name that serve an artefact, from a repository beside it."""
    repository, people = model.parent / "repository", model.parent / "people.json"
    PEOPLE.save(people)
    serve_artefact(model, repository, TWO)
    return {"model": str(repository), "people_file": str(people), **RULES}


def model_settings(model: Path) -> dict[str, str]:
    """Return the variables that make a scoring process serve an artefact."""
    return {f"FRAUD_SCORING_{name.upper()}": value for name, value in served(model).items()}
