"""The demo as a newcomer runs it: samples sent, decisions proven, Ctrl-C; and on own servers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from kafka import KafkaProducer

from demo.running import ENVIRONMENT_FILE, FILE_NAME, METRICS_FILE
from fraudstream.topics import RULES
from harness.processes import PROJECT_FOLDER, ChildProcess, is_port_open, wait_until
from harness.servers import Broker, ValkeyServer
from tests.conftest import create_topics

_START_TIMEOUT_S: Final = 180.0
# In the order of sending; each has a card of its own.
_SAMPLES: Final = {
    "verification": ("approve", ["FITS_HABITS"]),
    "approve": ("approve", ["FITS_HABITS"]),
    "refund": ("approve", ["FITS_HABITS"]),
    "reversal": ("approve", ["FITS_HABITS"]),
    "challenge": ("challenge", ["NEW_DEVICE_LARGE_AMOUNT"]),
    "review": ("review", ["NEW_DEVICE_LARGE_BET", "NEW_DEVICE_LARGE_AMOUNT"]),
    "decline": ("decline", ["BLOCKED_MERCHANTS"]),
}
_EXAMPLE: Final = PROJECT_FOLDER / "samples" / "approve.json"

Done = subprocess.CompletedProcess[str]


def _run(*arguments: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=PROJECT_FOLDER,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def _demo(*arguments: str) -> Done:
    return _run("demo", *arguments)


def _shell(folder: Path, command: str) -> Done:
    """Run a command in a shell that has read the running line's variables, as the README says."""
    script = f'. {folder}/{ENVIRONMENT_FILE} && "{sys.executable}" -m {command}'
    return subprocess.run(
        ["bash", "-c", script],
        cwd=PROJECT_FOLDER,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@dataclass(frozen=True)
class DemoRun:
    """What an unattended run left."""

    exit_code: int | None
    summary: dict[str, Any]
    words: str
    sent: dict[str, Done]
    refused: Done
    parity: Done
    replayed: Done
    measured: dict[str, bool]
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
    """Do what the README says while the demo runs, then end it by Ctrl-C."""
    folder = tmp_path_factory.mktemp("demo")
    summary = folder / "out.json"
    command = [sys.executable, "-m", "demo", "--rate", "30", "--summary", str(summary)]
    demo = ChildProcess("demo", [*command, "--folder", str(folder), "--plain"], folder / "demo.log")
    demo.start()
    try:
        demo.wait_ready((folder / FILE_NAME).exists, _START_TIMEOUT_S)
        sent = {name: _demo("--folder", str(folder), *_sample(name)) for name in _SAMPLES}
        refused = _demo("--folder", str(folder), *_sample("bad/currency"))
        decision_id = _word(sent["challenge"].stdout, "decision id")
        past = f"--past {folder}/past.parquet"
        parity = _shell(folder, f"training parity {past}")
        replayed = _shell(folder, f"services.scoring replay {decision_id} {past}")
        targets = json.loads((folder / METRICS_FILE).read_text())
        measured = {each["labels"]["job"]: _answers(each["targets"][0]) for each in targets}
        demo.signal(signal.SIGINT)
        assert demo.wait_end(_START_TIMEOUT_S), demo.log_text()
    finally:
        demo.stop()
    wait_until(lambda: not _processes_naming(folder), 10.0)
    return DemoRun(
        demo.exit_code,
        json.loads(summary.read_text()),
        demo.log_text(),
        sent,
        refused,
        parity,
        replayed,
        measured,
        _processes_naming(folder),
    )


def _sample(name: str) -> tuple[str, str]:
    return "send", str(PROJECT_FOLDER / "samples" / f"{name}.json")


def _word(text: str, name: str) -> str:
    """Return the word after a name at the begin of a line."""
    found = re.search(rf"^{name} +(\w+)", text, re.MULTILINE)
    return found[1] if found else ""


def _answers(target: str) -> bool:
    return is_port_open(int(target.rpartition(":")[2]))


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
    """Ctrl-C ends it with exit code 0 and nothing undecided."""
    summary = demo_run.summary

    assert demo_run.exit_code == 0, demo_run.words
    assert (summary["missing"], summary["undecided"], summary["forked"]) == (0, 0, 0)
    assert summary["decided"] > 200


def test_the_demo_accounts_for_every_record(demo_run: DemoRun) -> None:
    """Sent records and the samples are decided, duplicates, dead-lettered or late."""
    summary = demo_run.summary
    accounted = sum(summary[n] for n in ("decided", "duplicates", "dead_lettered", "late"))

    assert accounted == summary["sent"] + len(_SAMPLES) + 1


def test_the_demo_tells_what_others_sent_and_that_it_ends(demo_run: DemoRun) -> None:
    """The samples are not its own records, and Ctrl-C is answered before the services end."""
    words = demo_run.words

    assert f"sent {demo_run.summary['sent']} and {len(_SAMPLES) + 1} more by others: " in words
    assert words.index("ending the line") < words.index("more by others")


def test_the_summary_has_its_keys(demo_run: DemoRun) -> None:
    """Scripts that read the summary find the agreed keys."""
    keys = {"sent", "decided", "alerts", "dead_lettered", "duplicates", "p50_ms", "p99_ms"}

    assert keys | {"broker"} <= demo_run.summary.keys()


def test_the_demo_leaves_no_process_behind(demo_run: DemoRun) -> None:
    """After the demo nothing that it started is alive."""
    assert demo_run.left_behind == []


@pytest.mark.parametrize("name", _SAMPLES)
def test_a_sample_gets_what_its_name_says(demo_run: DemoRun, name: str) -> None:
    """Its action, for reasons that are true of its record, and a trace to look for.

    Where a rule decides, the model may have reasons of its own after the rule's: what it makes of
    a transaction depends on the hour.
    """
    action, codes = _SAMPLES[name]
    sent = demo_run.sent[name]

    assert sent.returncode == 0, sent.stderr
    assert _word(sent.stdout, "decision") == action, sent.stdout
    assert re.findall(r"(?:rule| -)  ([A-Z0-9_]+)  ", sent.stdout) == codes
    assert action != "approve" or not re.findall(r"[+-]\d+\.\d+  ", sent.stdout)
    assert "+0.00" not in sent.stdout
    assert "trace id " in sent.stdout


def test_a_refused_sample_is_told_by_the_exit_code(demo_run: DemoRun) -> None:
    """A script can tell it from a decision."""
    assert demo_run.refused.returncode == os.EX_DATAERR
    assert "refused   CURRENCY" in demo_run.refused.stdout


def test_parity_holds_on_the_demo_with_its_loaded_past(demo_run: DemoRun) -> None:
    """The certificate begins from what was loaded into the store, and names it."""
    found = demo_run.parity

    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.splitlines()[-1] == "parity holds"
    assert "loaded past" in found.stdout


def test_a_decision_of_the_demo_is_made_again(demo_run: DemoRun) -> None:
    """Features from the loaded past and the log, score, rules and action."""
    found = demo_run.replayed

    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.splitlines()[-1] == "identical"


def test_every_process_of_the_demo_shows_its_metrics(demo_run: DemoRun) -> None:
    """Each has a port of its own, also the three of features."""
    assert set(demo_run.measured) >= {"ingest", "features-card", "features-label", "scoring"}
    assert all(demo_run.measured.values()), demo_run.measured


@pytest.fixture(scope="module")
def own_runs(
    broker: Broker, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[ChildProcess, dict[str, Any]]]:
    """Run the demo twice, unattended, on servers where another line's rules are published."""
    own = {**broker.environment(), **valkey.environment()}
    create_topics(own, tmp_path_factory.mktemp("theirs"))
    with KafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        producer.send(RULES.name, key=b"cards", value=b"somebody's own").get(timeout=30)
    runs = []
    for number in (1, 2):
        folder = tmp_path_factory.mktemp(f"own{number}")
        command = [sys.executable, "-m", "demo", "--for", "10", "--rate", "20", "--plain"]
        command += ["--folder", str(folder), "--summary", str(folder / "out.json")]
        demo = ChildProcess("demo", command, folder / "demo.log", own)
        demo.start()
        assert demo.wait_end(_START_TIMEOUT_S), demo.log_text()
        runs.append((demo, json.loads((folder / "out.json").read_text())))
    return runs


def test_own_servers_get_topics_of_the_run_alone(
    own_runs: list[tuple[ChildProcess, dict[str, Any]]],
) -> None:
    """Another line's topics and rules are not touched, and the screen names the prefix."""
    for demo, _ in own_runs:
        assert demo.exit_code == 0, demo.log_text()
        assert re.search(r"^topics +demo-\d{8}-\d{6}-\*", demo.log_text(), re.MULTILINE)


def test_a_second_run_on_own_servers_knows_its_cards_and_counts_itself_alone(
    own_runs: list[tuple[ChildProcess, dict[str, Any]]],
) -> None:
    """It has a past of its own, and what the first run sent is not its own."""
    for demo, summary in own_runs:
        assert "earlier transactions loaded" in demo.log_text()
        accounted = sum(summary[n] for n in ("decided", "duplicates", "dead_lettered", "late"))
        assert accounted == summary["sent"], demo.log_text()


def test_send_says_what_to_start_where_nothing_runs(tmp_path: Path) -> None:
    """Without a line, `send` ends with exit code 69 and names the command that starts one."""
    found = _demo("--folder", str(tmp_path), "send", str(_EXAMPLE))

    assert found.returncode == os.EX_UNAVAILABLE
    assert "make demo" in found.stderr


def test_send_names_a_missing_file_before_it_looks_for_a_line(tmp_path: Path) -> None:
    """What is wrong here is told first."""
    found = _demo("--folder", str(tmp_path), "send", str(tmp_path / "none.json"))

    assert found.returncode == os.EX_NOINPUT
    assert f"there is no file {tmp_path}/none.json" in found.stderr


def test_wrong_usage_exits_64() -> None:
    """A wrong option ends with the sysexits code for usage."""
    found = _demo("--rate", "-1")

    assert found.returncode == os.EX_USAGE


def test_help_shows_every_command() -> None:
    """`--help` names the commands and shows examples."""
    found = _demo("--help")

    assert found.returncode == 0
    assert all(word in found.stdout for word in ("send", "replay", "--summary", "examples:"))
