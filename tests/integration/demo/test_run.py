"""The demo as a newcomer runs it, the README's commands to the letter; and on own servers."""

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

from demo.running import FILE_NAME, METRICS_FILE
from fraudstream.topics import RULES
from harness.processes import PROJECT_FOLDER, ChildProcess, is_port_open, wait_until
from harness.servers import Broker, ValkeyServer
from tests.conftest import create_topics
from tests.outside.pages.page_run import is_as_said
from tests.outside.pages.pages import blocks_of

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
_README: Final = (PROJECT_FOLDER / "README.md").read_text()
# Sections of the README whose blocks are typed, in this order.
_SECTIONS: Final = (
    "Try it",
    "Send a transaction",
    "Prove a decision",
    "See its metrics",
    "Call it over gRPC",
)
# Of their blocks: the first is what runs already, the second lists what runs for an hour.
_SENT_BESIDE: Final = len(_SAMPLES) + 3  # a bad one, one that the page sends, one by gRPC
_NOT_TYPED: Final = ("make demo\n", "make test\n")

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


def _text_of(section: str) -> str:
    return _README.partition(f"\n## {section}\n")[2].partition("\n## ")[0]


def _typed(project: Path, section: str, *, said: str, ports: dict[str, int]) -> Done:
    """Type a section's blocks into a shell in which the virtual environment is active.

    Args:
        project: A folder with what the working tree has.
        section: Of the README.
        said: What the commands of earlier sections printed.
        ports: Where processes of the demo listen, by what the page says of each.
    """
    lines = []
    for block in blocks_of(_text_of(section)):
        text = block.text.replace("DECISION_ID", _word(said, "decision id"))
        for documented, port in ports.items():
            text = text.replace(f"127.0.0.1:{documented}", f"127.0.0.1:{port}")
        if text not in _NOT_TYPED:
            lines.append(f"python - <<'END'\n{text}END\n" if block.language == "python" else text)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", "".join(lines)],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def _linked_project(folder: Path) -> Path:
    """Return a folder with what the working tree has, and no demo but this test's own."""
    folder.mkdir()
    for path in PROJECT_FOLDER.iterdir():
        if path.name not in ("var", "out", ".git"):
            (folder / path.name).symlink_to(path)
    return folder


@dataclass(frozen=True)
class DemoRun:
    """What an unattended run left."""

    exit_code: int | None
    summary: dict[str, Any]
    words: str
    sent: dict[str, Done]
    refused: Done
    typed: dict[str, Done]
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
    project = _linked_project(folder / "project")
    demos = project / "var" / "demo"
    command = ["bash", "-c", 'cd "$0" && exec "$@"', str(project), sys.executable, "-m", "demo"]
    command += ["--rate", "30", "--summary", str(summary), "--plain"]
    demo = ChildProcess("demo", command, folder / "demo.log")
    demo.start()
    try:
        demo.wait_ready((demos / FILE_NAME).exists, _START_TIMEOUT_S)
        sent = {name: _demo("--folder", str(demos), *_sample(name)) for name in _SAMPLES}
        refused = _demo("--folder", str(demos), *_sample("bad/currency"))
        targets = json.loads((demos / METRICS_FILE).read_text())
        ports = {each["labels"]["job"]: each["targets"][0] for each in targets}
        typed: dict[str, Done] = {}
        for section in _SECTIONS:
            said = "".join(done.stdout for done in typed.values())
            typed[section] = _typed(
                project, section, said=said, ports=_documented(demo.log_text(), ports)
            )
        measured = {name: _answers(target) for name, target in ports.items()}
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
        typed,
        measured,
        _processes_naming(folder),
    )


def _documented(screen: str, metrics: dict[str, str]) -> dict[str, int]:
    """Return where the ports of the page are, for a machine on which some are taken."""
    scoring = re.search(r"^scoring +gRPC on 127\.0\.0\.1:(\d+)", screen, re.MULTILINE)
    assert scoring is not None, screen
    return {"50051": int(scoring[1]), "9105": int(metrics["ingest"].rpartition(":")[2])}


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

    assert accounted == summary["sent"] + _SENT_BESIDE


def test_the_demo_tells_what_others_sent_and_that_it_ends(demo_run: DemoRun) -> None:
    """The samples are not its own records, and Ctrl-C is answered before the services end."""
    words = demo_run.words

    assert f"sent {demo_run.summary['sent']} and {_SENT_BESIDE} more by others: " in words
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


@pytest.mark.parametrize(
    ("section", "lines"),
    [
        ("Try it", ["training parity  prove the features of decisions, bit for bit"]),
        ("Send a transaction", ["decision  approve, score …"]),
        ("Prove a decision", ["loaded past  …", "parity holds", "identical"]),
        ("See its metrics", ['fraud_ingest_records_total{outcome="accepted"} …']),
        ("Call it over gRPC", ["ACTION_APPROVE …"]),
    ],
)
def test_commands_of_the_readme_print_what_it_says(
    demo_run: DemoRun, section: str, lines: list[str]
) -> None:
    """Typed as they stand, in their order, while the demo runs."""
    done = demo_run.typed[section]
    printed = [re.sub(r" +", " ", line) for line in done.stdout.splitlines()]

    assert done.returncode == 0, done.stdout + done.stderr
    for line in lines:
        said = re.sub(r" +", " ", line).strip()
        assert any(is_as_said(found, said) for found in printed), done.stdout


def test_table_of_the_readme_is_what_the_samples_get() -> None:
    """Each decision, and the reason that the page gives for it."""
    rows = re.findall(r"^\| (`\w+\.json`.*?) \| (\w+) \| (.*) \|$", _README, re.MULTILINE)
    told = {name: (row[1], row[2]) for row in rows for name in re.findall(r"(\w+)\.json", row[0])}

    assert told.keys() == _SAMPLES.keys()
    for name, (action, why) in told.items():
        codes = re.findall(r"`([A-Z_]+)`", why)
        assert (action, codes or ["FITS_HABITS"]) == (_SAMPLES[name][0], _SAMPLES[name][1][:1])


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
