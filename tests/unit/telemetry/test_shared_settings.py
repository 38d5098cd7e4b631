"""Settings that every service shares: one rate table, one way to log, one release."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings
from fraudstream.settings import RatesSettings
from fraudstream.telemetry.json_log import start_log
from harness.processes import PROJECT_FOLDER
from services.ingest.settings import IngestSettings
from services.scoring.settings import ScoringSettings

_ROOT = PROJECT_FOLDER


@pytest.fixture
def logging_kept() -> Iterator[None]:
    """Loggers as they were, whatever a test makes of them."""
    root = logging.getLogger()
    names = ("fraudstream", "services")
    before = root.level, root.handlers[:], [logging.getLogger(name).level for name in names]
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    for name, level in zip(names, before[2], strict=True):
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize(
    "name",
    ["FRAUD_RATES_TABLE_FILE", "FRAUD_INGEST_RATE_TABLE_FILE", "FRAUD_SCORING_RATE_TABLE_FILE"],
)
def test_rate_table_is_one_setting_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A former name, of either service, gives the table of both."""
    monkeypatch.setenv(name, "rates.json")

    assert RatesSettings.read().table_file == Path("rates.json")
    IngestSettings.read()
    ScoringSettings.read()


def test_two_rate_tables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A payment would have another amount by Kafka than by gRPC."""
    monkeypatch.setenv("FRAUD_INGEST_RATE_TABLE_FILE", "a.json")
    monkeypatch.setenv("FRAUD_SCORING_RATE_TABLE_FILE", "b.json")

    with pytest.raises(InvalidSettings, match="expected FRAUD_RATES_TABLE_FILE alone"):
        RatesSettings.read()


@pytest.mark.usefixtures("logging_kept")
def test_libraries_say_nothing_below_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """The one line that matters is not lost in those of the Kafka client."""
    start_log("ingest")

    logging.getLogger("kafka.conn").info("IO loop starting")
    logging.getLogger("services.ingest.build").info("ours")

    assert [line for line in capsys.readouterr().err.splitlines() if "IO loop" in line] == []


@pytest.mark.usefixtures("logging_kept")
def test_level_and_form_of_logs_are_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DEBUG shows libraries too; text is for people, and a message cannot forge a line."""
    monkeypatch.setenv("FRAUD_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("FRAUD_LOG_FORMAT", "text")
    start_log("ingest")

    logging.getLogger("kafka.conn").debug("two\nlines")

    line = capsys.readouterr().err
    assert line.endswith(" DEBUG ingest kafka.conn: two\\nlines\n")


def test_unknown_log_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip would silence a service, or not silence it."""
    monkeypatch.setenv("FRAUD_LOG_LEVEL", "LOUD")

    with pytest.raises(InvalidSettings, match="level"):
        start_log("ingest")
