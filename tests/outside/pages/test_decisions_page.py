"""docs/decisions.md: its programs read what scoring writes, and its table is that of the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from kafka import KafkaProducer

from fraudstream.broker.clients import kafka_python_producer_options
from fraudstream.topics import ALL, DAY_MS, DECISIONS
from fraudstream.v1.decision_pb2 import Action, Decision
from harness.processes import ChildProcess, wait_until
from harness.settings import kafka_settings_in
from tests.conftest import create_topics
from tests.outside.pages.pages import ROOT, blocks_of

PAGE: Final = (ROOT / "docs" / "decisions.md").read_text()
NO_REGISTRY: Final = re.compile("ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|network")
ANSWER_S: Final = 60.0

pytestmark = pytest.mark.slow


def example(language: str, environment: Mapping[str, str]) -> str:
    """Return the page's program in a language, with a test's addresses."""
    (text,) = [block.text for block in blocks_of(PAGE) if block.language == language]
    settings = kafka_settings_in(environment)
    text = text.replace("127.0.0.1:9092", settings.bootstrap)
    return text.replace("'decisions.made", f"'{settings.topic_prefix}decisions.made").replace(
        '"decisions.made', f'"{settings.topic_prefix}decisions.made'
    )


@pytest.fixture
def decided(any_line_env: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    """A topic with two decisions of the bank, one of them again and changed, and another bank's."""
    create_topics(any_line_env, tmp_path)
    settings = kafka_settings_in(any_line_env)
    producer = KafkaProducer(**kafka_python_producer_options(settings))
    for bank, number, action in (
        ("bank", 1, Action.ACTION_DECLINE),
        ("other", 9, Action.ACTION_APPROVE),
        ("bank", 1, Action.ACTION_DECLINE),
        ("bank", 1, Action.ACTION_APPROVE),
        ("bank", 2, Action.ACTION_REVIEW),
    ):
        decision = Decision(
            decision_id=f"{number:032}", bank_id=bank, transaction_id=f"t-{number}", action=action
        )
        value = decision.SerializeToString()
        producer.send(settings.topic(DECISIONS), value=value, key=b"card").get(timeout=30)
    producer.close()
    return any_line_env


@pytest.fixture
def javascript(tmp_path: Path) -> Path:
    """A folder with kafkajs, protobufjs and the contracts; skips where they cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on the PATH")
    folder = tmp_path / "javascript"
    folder.mkdir()
    (folder / "proto").symlink_to(ROOT / "proto")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "kafkajs@2", "protobufjs@7"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and NO_REGISTRY.search(done.stdout + done.stderr):
        pytest.skip("no package registry within reach")
    assert done.returncode == 0, done.stderr
    return folder


def printed_by(command: list[str], log: Path) -> list[str]:
    """Return the lines that a reader printed when it had read the bank's last decision."""
    reader = ChildProcess(log.stem, command, log)
    reader.start()
    wait_until(lambda: not reader.is_running or "t-2" in reader.log_text(), ANSWER_S)
    reader.kill()
    return [line for line in reader.log_text().splitlines() if line.startswith("t-")]


def test_the_python_program_prints_each_first_decision_of_its_bank(
    decided: Mapping[str, str], tmp_path: Path
) -> None:
    """By librdkafka: a repeat, a fork and another bank's decision are passed over."""
    program = tmp_path / "reader.py"
    program.write_text(example("python", decided))

    lines = printed_by([sys.executable, str(program)], tmp_path / "python.log")

    assert lines == ["t-1 ACTION_DECLINE", "t-2 ACTION_REVIEW"]


def test_the_javascript_program_prints_the_same(
    decided: Mapping[str, str], javascript: Path
) -> None:
    """By a client and a Protobuf library that share no code with ours."""
    (javascript / "reader.js").write_text(example("js", decided))
    command = ["sh", "-c", 'cd "$0" && exec node reader.js', str(javascript)]

    lines = printed_by(command, javascript / "javascript.log")

    assert lines == ["t-1 ACTION_DECLINE", "t-2 ACTION_REVIEW"]


def test_every_topic_is_in_the_table_with_what_it_promises() -> None:
    """Name, key, retention and writers, as topics.py has them."""
    section = PAGE.partition("\n## Topics, and who may use them\n")[2]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    found = [[cell.strip() for cell in row] for row in rows]
    expected = [
        [
            f"`{topic.name}`",
            topic.key,
            "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms // DAY_MS} days",
            ", ".join(topic.writers),
        ]
        for topic in ALL
    ]

    assert [row[:4] for row in found] == expected


def test_fields_that_the_page_explains_are_those_of_the_message() -> None:
    """A field that was renamed would leave the page behind."""
    section = PAGE.partition("| field | means |")[2].partition("\n\n")[0]

    named = set(re.findall(r"`(\w+)`", "".join(r.split("|")[1] for r in section.splitlines()[2:])))

    assert named
    assert named <= {field.name for field in Decision.DESCRIPTOR.fields}
