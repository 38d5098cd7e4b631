"""A features worker that cannot start says why on one line, and ends with the code for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fraudstream.dead_letters.letter import write_seal_keys
from harness.processes import free_port
from harness.service_process import ServiceProcess


def _ended(role: str, environment: Mapping[str, str], folder: Path) -> ServiceProcess:
    told = {**environment, "FRAUD_FEATURES_STATE_DIR": str(folder / "features")}
    worker = ServiceProcess("services.features", [role], told, folder)
    worker.launch()
    assert worker.wait_end(timeout_s=120.0)
    return worker


def test_card_without_a_key_for_dead_letters_ends_at_its_start(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """78 and the variable, before a record is read."""
    worker = _ended("card", topics, tmp_path)

    said = worker.log_text()
    assert worker.exit_code == 78, said
    assert "features: FRAUD_FEATURES_SEAL_PUBLIC_KEY_FILE is not set" in said
    assert "Traceback" not in said


def test_store_that_is_away_ends_with_its_code(topics: Mapping[str, str], tmp_path: Path) -> None:
    """69: the orchestrator starts it again, and the log has no trace of a known fault."""
    write_seal_keys(tmp_path / "seal.private", tmp_path / "seal.public")
    away = {
        **topics,
        "FRAUD_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "FRAUD_FEATURES_SEAL_PUBLIC_KEY_FILE": str(tmp_path / "seal.public"),
    }

    worker = _ended("card", away, tmp_path)

    said = worker.log_text()
    assert worker.exit_code == 69, said
    assert said.splitlines()[-1].startswith("features: the online store")
