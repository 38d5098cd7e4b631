"""docs/keys.md: its commands, as they stand there, make and change every key."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudstream.broker.wire.record_keys import SIGNED, all_files
from fraudstream.topics import DLQ, LABELS_RAW, RAW
from tests.outside.pages.page_run import PageRun, is_as_said, steps_of
from tests.outside.pages.pages import ROOT, blocks_of

PAGE = (ROOT / "docs" / "keys.md").read_text()
DAY_MS = 86_400_000


@pytest.mark.slow
def test_commands_print_what_the_page_says(tmp_path: Path) -> None:
    """In order, in one shell; what they leave is wrapped under the last key."""
    steps = [s for b in blocks_of(PAGE) if b.language == "console" for s in steps_of(b)]
    run = PageRun(steps, tmp_path, {"PYTHONPATH": str(ROOT)}, tmp_path / "page.log")

    try:
        printed = run.run(120.0)
    finally:
        run.end()

    assert [p for p in printed if not is_as_said(p.text, p.step.expected or "")] == []
    secret = [*tmp_path.glob("keys/**/*.key"), tmp_path / "keys" / "token-keys.json"]
    assert len(secret) == 8
    secret += [tmp_path / "keys" / "records" / name for name in all_files()]
    assert all('"kek":"k2"' in file.read_text() for file in secret)


def test_days_of_the_table_are_those_of_the_topics() -> None:
    """How long an old key stays follows from how long what it opens is kept."""
    kept = {topic.name: topic.retention_ms // DAY_MS for topic in (RAW, LABELS_RAW, DLQ)}

    assert (
        f"{kept[RAW.name]} for `{RAW.name}`, {kept[LABELS_RAW.name]} for `{LABELS_RAW.name}`"
        in (PAGE)
    )
    assert f"{kept[DLQ.name]} days: retention of `{DLQ.name}`" in PAGE
    longest = max(SIGNED, key=lambda topic: topic.retention_ms)
    assert (
        f"| {longest.retention_ms // DAY_MS} days: retention of `{longest.name}`, the longest of a"
        " signed topic" in PAGE
    )
    assert f"| {max(kept.values())} days after the last bank changed" in PAGE
