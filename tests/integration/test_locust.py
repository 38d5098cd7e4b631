"""The Locust file against a real scoring service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from demo.processes import PROJECT_FOLDER, free_port
from fraudstream.topics import DECISIONS
from tests.conftest import ServiceLauncher
from tests.scoring_world import Log, kafka_settings, open_shards, open_store
from tests.tiny_model import tiny_artefact
from tests.trust import model_settings

pytestmark = pytest.mark.slow


@pytest.fixture
async def scoring_port(topics: Mapping[str, str], service: ServiceLauncher, tmp_path: Path) -> int:
    """Port of a scoring service in a process of its own, its shards open."""
    tiny_artefact(tmp_path / "model")
    async with open_store(topics) as store:
        await open_shards(store)
    ports = free_port(), free_port()
    told = {
        **model_settings(tmp_path / "model"),
        "FRAUD_SCORING_PORT": str(ports[0]),
        "FRAUD_SCORING_INTERNAL_PORT": str(ports[1]),
    }
    service("services.scoring", [], {**topics, **told}, timeout_s=120.0)
    return ports[0]


def run_locust(port: int, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run Locust headless; return its exit code, its rows, and what it wrote besides."""
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless"]
    command += ["--host", f"127.0.0.1:{port}", "--json", "--only-summary", *options]
    ended = subprocess.run(
        command, cwd=PROJECT_FOLDER, capture_output=True, text=True, timeout=200, check=False
    )
    rows = re.search(r"^\[.*^\]|^\[.*\]$", ended.stdout, re.DOTALL | re.MULTILINE)
    return ended.returncode, json.loads(rows.group()) if rows else [], ended.stderr


async def test_users_get_decisions_that_are_in_the_log(
    topics: Mapping[str, str], scoring_port: int
) -> None:
    """Each user's calls are answered with decisions about its own transactions, all published."""
    code, rows, said = run_locust(scoring_port, "-u", "4", "-r", "4", "-t", "3s")

    calls = sum(row["num_requests"] for row in rows)
    assert code == 0, said
    assert calls >= 4
    assert not any(row["num_failures"] for row in rows)
    assert all(re.fullmatch("Score (approve|challenge|review|decline)", r["name"]) for r in rows)
    published = await Log(kafka_settings(topics)).read(DECISIONS, calls)
    assert len(published) >= calls


def test_without_a_service_every_call_fails() -> None:
    """A call that gets no decision is a failure, and Locust's exit code says so."""
    code, rows, _ = run_locust(free_port(), "-u", "1", "-r", "1", "-t", "1s")

    assert code == 1
    assert all(row["num_failures"] == row["num_requests"] for row in rows)
