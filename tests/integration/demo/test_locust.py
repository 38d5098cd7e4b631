"""The Locust file against a real scoring service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from fraudstream.topics import DECISIONS
from harness.line import SERVICES, Line
from harness.processes import PROJECT_FOLDER, free_port
from tests.conftest import ServiceLauncher
from tests.fakes.tiny_model import tiny_artefact
from tests.worlds.scoring_world import Log, kafka_settings, open_shards, open_store
from tests.worlds.trust import model_settings

pytestmark = pytest.mark.slow

_DECIDING = tuple(service for service in SERVICES if service[0] != "services.console")


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


@pytest.fixture
def other_server() -> Iterator[str]:
    """Address of a gRPC server that knows no method."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def run_locust(
    folder: Path, environment: Mapping[str, str], *options: str
) -> tuple[int, list[dict[str, Any]], str]:
    """Run Locust headless; return its exit code, its rows, and what it said."""
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless"]
    command += ["--html", f"{folder}/load.html", "--json-file", f"{folder}/load", *options]
    ended = subprocess.run(
        command,
        cwd=PROJECT_FOLDER,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    report = folder / "load.json"
    rows = json.loads(report.read_text()) if report.exists() else []
    return ended.returncode, rows, ended.stdout + ended.stderr


async def test_users_get_decisions_that_are_in_the_log(
    topics: Mapping[str, str], scoring_port: int, tmp_path: Path
) -> None:
    """Each user's calls are answered with decisions about its own transactions, all published."""
    told = ["ScoreUser", "--host", f"127.0.0.1:{scoring_port}", "-u", "4", "-r", "4", "-t", "3s"]
    code, rows, said = run_locust(tmp_path, {}, *told)

    calls = sum(row["num_requests"] for row in rows)
    assert code == 0, said
    assert calls >= 4
    assert not any(row["num_failures"] for row in rows)
    assert all(re.fullmatch("Score (approve|challenge|review|decline)", r["name"]) for r in rows)
    published = await Log(kafka_settings(topics)).read(DECISIONS, calls)
    assert len(published) >= calls
    assert "<html" in (tmp_path / "load.html").read_text()


def test_kafka_users_get_their_decisions_from_the_line(
    line_env: Mapping[str, str], tmp_path: Path
) -> None:
    """What a bank appends to the raw topic is decided by the whole line, and its user sees it."""
    tiny_artefact(tmp_path / "model")
    own = {"FRAUD_SCORING_MODEL": str(tmp_path / "model")}
    line = Line(tmp_path / "line", line_env, own, services=_DECIDING)
    line.prepare()
    told = ["KafkaUser", "-u", "2", "-r", "2", "-t", "8s"]
    line.start()
    try:
        code, rows, said = run_locust(tmp_path, line_env, *told)
    finally:
        line.stop()

    assert code == 0, said
    assert sum(row["num_requests"] for row in rows) >= 2
    assert not any(row["num_failures"] for row in rows)
    assert all(re.fullmatch("Line (approve|challenge|review|decline)", r["name"]) for r in rows)


def test_a_call_without_a_decision_fails_and_says_why(tmp_path: Path, other_server: str) -> None:
    """Locust's exit code says so, and the error's own text is there to read."""
    told = ["ScoreUser", "--host", other_server, "-u", "1", "-r", "1", "-t", "1s"]
    code, rows, said = run_locust(tmp_path, {}, *told)

    assert code == 1
    assert rows
    assert all(row["num_failures"] == row["num_requests"] for row in rows)
    assert "UNIMPLEMENTED: Method not found!" in said


def test_without_a_service_nothing_is_sent_and_the_last_report_stays(tmp_path: Path) -> None:
    """A run that cannot measure ends before it begins, and says what to start."""
    (tmp_path / "load.html").write_text("of an earlier run")
    nowhere = f"127.0.0.1:{free_port()}"
    told = ["ScoreUser", "--host", nowhere, "-u", "1", "-r", "1", "-t", "60s"]
    code, rows, said = run_locust(tmp_path, {}, *told)

    assert (code, rows) == (os.EX_UNAVAILABLE, [])
    assert f"no scoring service answers at {nowhere}: start `make demo`" in said
    assert (tmp_path / "load.html").read_text() == "of an earlier run"
    assert "Traceback" not in said


def test_without_a_broker_the_run_fails_and_says_where_it_looked(tmp_path: Path) -> None:
    """A load test that sent nothing has measured nothing, and no script may take it for a pass."""
    nowhere = f"127.0.0.1:{free_port()}"
    told = ["KafkaUser", "-u", "2", "-r", "2", "-t", "60s"]
    code, rows, said = run_locust(tmp_path, {"FRAUD_KAFKA_BOOTSTRAP": nowhere}, *told)

    assert (code, rows) == (os.EX_UNAVAILABLE, [])
    assert nowhere in said
    assert "start `make demo`" in said
    assert not (tmp_path / "load.html").exists()
    assert "Traceback" not in said


def test_the_traffic_is_made_before_the_run_begins(tmp_path: Path, other_server: str) -> None:
    """Making it takes seconds of CPU, which are not the run's."""
    told = ["ScoreUser", "--host", other_server, "-u", "1", "-r", "1", "-t", "1s"]
    _, _, said = run_locust(tmp_path, {}, *told)

    assert 0 < said.index("the traffic is made") < said.index("Run time limit set")
