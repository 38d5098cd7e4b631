"""The demo as a newcomer runs it: unattended with a summary, and a sample sent meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from demo.processes import PROJECT_FOLDER, ChildProcess, wait_until
from demo.running import FILE_NAME

_START_TIMEOUT_S: Final = 180.0
# Long enough for `send` to start beside the line, also on a busy machine.
_TRAFFIC_S: Final = 60
_EXAMPLE: Final = PROJECT_FOLDER / "samples" / "approve.json"


def _demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo", *arguments],
        cwd=PROJECT_FOLDER,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass(frozen=True)
class DemoRun:
    """What an unattended run left."""

    exit_code: int | None
    summary: dict[str, Any]
    words: str
    sent: subprocess.CompletedProcess[str]
    left_behind: list[str]


@pytest.fixture(scope="module", autouse=True)
def _no_server_named() -> Iterator[None]:
    """Take away every variable that names a broker, a store or Kafka."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("FRAUD_KAFKA_", "FRAUD_REDIS_", "KAFKA_HOME")):
                patch.delenv(name)
        yield


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """Run the demo for a few seconds and send a sample while it runs."""
    folder = tmp_path_factory.mktemp("demo")
    summary = folder / "out.json"
    command = [sys.executable, "-m", "demo", "--for", str(_TRAFFIC_S), "--rate", "30"]
    command += ["--summary", str(summary), "--folder", str(folder), "--plain"]
    demo = ChildProcess("demo", command, folder / "demo.log")
    demo.start()
    try:
        demo.wait_ready((folder / FILE_NAME).exists, _START_TIMEOUT_S)
        sent = _demo("--folder", str(folder), "send", str(_EXAMPLE))
        assert demo.wait_end(_START_TIMEOUT_S), demo.log_text()
    finally:
        demo.stop()
    wait_until(lambda: not _processes_naming(folder), 10.0)
    return DemoRun(
        demo.exit_code,
        json.loads(summary.read_text()),
        demo.log_text(),
        sent,
        _processes_naming(folder),
    )


def _processes_naming(folder: Path) -> list[str]:
    """Return the command lines of processes whose environment or arguments name a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            command = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it has ended meanwhile
        if str(folder).encode() in text:
            found.append(command)
    return found


def test_the_demo_decides_every_transaction(demo_run: DemoRun) -> None:
    """An unattended run ends with exit code 0 and nothing undecided."""
    summary = demo_run.summary

    assert demo_run.exit_code == 0, demo_run.words
    assert (summary["missing"], summary["undecided"], summary["forked"]) == (0, 0, 0)
    assert summary["decided"] > _TRAFFIC_S * 20


def test_the_demo_accounts_for_every_record(demo_run: DemoRun) -> None:
    """Sent records (and the sample) are decided, duplicates, dead-lettered or late."""
    summary = demo_run.summary
    accounted = sum(summary[n] for n in ("decided", "duplicates", "dead_lettered", "late"))

    assert accounted == summary["sent"] + 1


def test_the_summary_has_its_keys(demo_run: DemoRun) -> None:
    """Scripts that read the summary find the agreed keys."""
    keys = {"sent", "decided", "alerts", "dead_lettered", "duplicates", "p50_ms", "p99_ms"}

    assert keys | {"broker"} <= demo_run.summary.keys()


def test_the_demo_leaves_no_process_behind(demo_run: DemoRun) -> None:
    """After the demo nothing that it started is alive."""
    assert demo_run.left_behind == []


def test_a_sample_gets_its_decision(demo_run: DemoRun) -> None:
    """`send` prints decision, reasons and trace id."""
    assert demo_run.sent.returncode == 0, demo_run.sent.stderr
    assert "decision " in demo_run.sent.stdout
    assert "trace id " in demo_run.sent.stdout
    assert "reasons " in demo_run.sent.stdout


def test_send_says_what_to_start_where_nothing_runs(tmp_path: Path) -> None:
    """Without a line, `send` ends with exit code 69 and names the command that starts one."""
    found = _demo("--folder", str(tmp_path), "send", str(_EXAMPLE))

    assert found.returncode == os.EX_UNAVAILABLE
    assert "make demo" in found.stderr


def test_wrong_usage_exits_64() -> None:
    """A wrong option ends with the sysexits code for usage."""
    found = _demo("--rate", "-1")

    assert found.returncode == os.EX_USAGE


def test_help_shows_every_command() -> None:
    """`--help` names the commands and shows examples."""
    found = _demo("--help")

    assert found.returncode == 0
    assert all(word in found.stdout for word in ("send", "replay", "--summary", "examples:"))
