"""docs/labels.md: its file and its commands, on an archive that has two of its transactions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from fraudstream.broker.log_reader import read_topic
from fraudstream.topics import LABELS_RAW
from fraudstream.transaction.card_token import write_token_keys
from harness.settings import kafka_settings_in
from services.ingest.labels.bank_label import BankLabel, read_bank_label
from tests.integration.ingest.test_label_import import archive
from tests.outside.pages.page_run import PageRun, is_as_said, steps_of
from tests.outside.pages.pages import ROOT, blocks_of
from tests.worlds.archive_records import transaction

PAGE = (ROOT / "docs" / "labels.md").read_text()
EVENT_MS = 1_780_000_000_000


@pytest.mark.slow
def test_file_and_commands_give_what_the_page_says(
    topics: Mapping[str, str], tmp_path: Path
) -> None:
    """The file as it stands in the page, and each line that the commands print."""
    paid = [transaction(1), transaction(2)]
    for number, one in enumerate(paid, 1):
        one.bank_id, one.transaction_id = "bank", f"t-{number}"
        one.event_time_ms = EVENT_MS + number - 1
    archive(tmp_path / "archive", paid)
    write_token_keys(tmp_path / "token-keys.json")
    environment = {
        **topics,
        "FRAUD_INGEST_TOKEN_KEYS_FILE": str(tmp_path / "token-keys.json"),
        "FRAUD_INGEST_ARCHIVE_ROOT": str(tmp_path / "archive"),
    }
    (file,) = [block.text for block in blocks_of(PAGE) if block.language == "csv"]
    (tmp_path / "chargebacks.csv").write_text(file)
    steps = [s for b in blocks_of(PAGE) if b.language == "console" for s in steps_of(b)]
    run = PageRun(steps, tmp_path, environment, tmp_path / "page.log")

    try:
        printed = run.run(60.0)
    finally:
        run.end()

    assert [p.text for p in printed if not is_as_said(p.text, p.step.expected or "")] == []


def test_table_has_each_field_that_is_read() -> None:
    """And no other."""
    section = PAGE.partition("\n## A label\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]

    # The sealed number takes the place of `pan` before a label is read.
    read = {*BankLabel.model_fields, "pan_sealed", "pan_key_id"}
    assert {n for row in rows for n in re.findall(r"`(\w+)`", row)} == read


@pytest.mark.slow
def test_program_writes_a_label_that_is_read(topics: Mapping[str, str], tmp_path: Path) -> None:
    """As it stands in the page: by librdkafka, to the topic that ingest reads."""
    settings = kafka_settings_in(topics)
    (program,) = [block.text for block in blocks_of(PAGE) if block.language == "python"]
    program = program.replace("127.0.0.1:9092", settings.bootstrap)
    program = program.replace('"labels.raw', f'"{settings.topic_prefix}labels.raw')

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

    (record,) = read_topic(settings, LABELS_RAW)
    assert read_bank_label(json.loads(record.value)).key == ("bank", "t-1")
