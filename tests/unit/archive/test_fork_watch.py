"""Decisions that differ from an earlier one of their identity are counted; copies are not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fraudstream.archive.batches import LogRows, decision_batch
from fraudstream.archive.files import ArchiveFile
from fraudstream.telemetry.metrics import DECISION_FORKS
from fraudstream.v1.decision_pb2 import Action, Decision
from services.archive.fork_watch import ForkWatch
from tests.worlds.archive_records import decision

_NAME = "decisions/ab/0"


def _other(number: int) -> Decision:
    """Return another decision of the same transaction."""
    made = decision(number)
    made.action, made.score = Action.ACTION_APPROVE, 0.01
    return made


def _later(number: int) -> Decision:
    """Return the same decision, with timings of its own."""
    made = decision(number)
    made.timings.scoring_ended_us = 5
    return made


def _look(watch: ForkWatch, decisions: Sequence[Decision], first: int = 0) -> int:
    """Return how many forks a watch counts among decisions at offsets from `first`."""
    before = DECISION_FORKS._value.get()
    offsets = range(first, first + len(decisions))
    watch.look(_NAME, decision_batch(decisions, LogRows(0, list(offsets), [0] * len(decisions))))
    return int(DECISION_FORKS._value.get() - before)


@pytest.fixture(scope="module")
def watch() -> ForkWatch:
    """A watch that is asked for other offsets and transactions in every test."""
    return ForkWatch()


def test_second_different_decision_is_a_fork(
    watch: ForkWatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The alarm names where it lies; the first one stays, so a third copy of it is none."""
    assert _look(watch, [decision(1), decision(2)], first=10) == 0
    with caplog.at_level(logging.ERROR):
        assert _look(watch, [_other(1), decision(1)], first=12) == 1

    assert "decisions/ab/0: 1 decisions differ" in caplog.text
    assert "at offsets 12." in caplog.text


def test_copy_of_a_decision_is_no_fork(watch: ForkWatch) -> None:
    """An outbox publishes at least once, and timings do not make another decision."""
    assert _look(watch, [decision(3), decision(3), _later(3)], first=20) == 0


def test_offset_that_is_read_again_is_counted_once(watch: ForkWatch) -> None:
    """A file that was not finished is read again."""
    assert _look(watch, [decision(4), _other(4)], first=30) == 1
    assert _look(watch, [decision(4), _other(4)], first=30) == 0


def test_restart_remembers_what_the_files_hold(tmp_path: Path) -> None:
    """A fork of a decision of before the start is seen; a file that is no Parquet stops nothing."""
    path, damaged = tmp_path / "decisions.parquet", tmp_path / "damaged.parquet"
    rows = decision_batch([decision(5)], LogRows(0, [0], [0]))
    with pq.ParquetWriter(path, rows.schema) as writer:
        writer.write_batch(rows)
    damaged.write_bytes(b"PAR1")
    files = [
        ArchiveFile(each, "ab", date(2026, 1, 31), 0, at, at)
        for at, each in enumerate((path, damaged))
    ]
    restarted = ForkWatch()
    restarted.read_back(_NAME, files)

    assert _look(restarted, [_other(5)], first=2) == 1
