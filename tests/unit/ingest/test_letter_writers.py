"""Who signed a dead letter or a mark decides what `dlq` makes of it."""

from __future__ import annotations

import logging

import pytest

from fraudstream.broker.log_reader import LogRecord
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, DLQ, ENTITIES, LABELS_RAW, RAW
from services.ingest.dead_letters.reader import REPLAYED, Letter, letter_of, only_letters

KAFKA = KafkaSettings(topic_prefix="bank-")


def _read(writer: str, source: str, offset: int = 7, mark_of: str = "") -> Letter:
    """Return a record of the topic as a poll brings it; the last header tells who signed it."""
    headers = [("writer", b"operator"), ("topic", source.encode())]
    headers += [(REPLAYED, mark_of.encode())] * bool(mark_of)
    headers += [("writer", writer.encode())] * bool(writer)
    return letter_of(LogRecord(f"bank-{DLQ.name}", 0, offset, 0, b"", b"", headers))


@pytest.mark.parametrize(
    ("writer", "mark_of"), [("operator", "0:3"), ("features", ""), ("ingest", "")]
)
def test_mark_of_a_replay_is_the_operators(writer: str, mark_of: str) -> None:
    """One of features or ingest would hide a letter from `replay --all`."""
    assert _read(writer, f"bank-{RAW.name}", mark_of="0:3").replayed == mark_of


@pytest.mark.parametrize(
    ("writer", "source", "is_letter"),
    [
        ("ingest", RAW.name, True),
        ("ingest", LABELS_RAW.name, True),
        ("ingest", "north.v1", True),
        ("features", RAW.name, False),
        ("features", LABELS_RAW.name, False),
        ("features", "north.v1", False),
        ("features", ACCEPTED.name, True),
        ("features", ENTITIES.name, True),
        ("ingest", ACCEPTED.name, False),
        ("operator", RAW.name, False),
        ("operator", ACCEPTED.name, False),
    ],
)
def test_letter_is_of_the_room_that_reads_its_source(
    writer: str, source: str, is_letter: bool
) -> None:
    """Features' key sends nothing under ingest's name, and the other way round."""
    letter = _read(writer, f"bank-{source}")

    assert list(only_letters([letter], KAFKA)) == [letter] * is_letter


def test_letters_of_others_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """They are passed over, forged marks among them, and whoever runs `dlq` reads it."""
    raw = f"bank-{RAW.name}"
    true, mark = _read("ingest", raw, 1), _read("operator", raw, 2, mark_of="0:1")
    forged = [_read("features", raw, offset, mark_of="0:1") for offset in range(3, 103)]

    with caplog.at_level(logging.ERROR):
        assert list(only_letters([true, mark, *forged], KAFKA)) == [true]

    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("100 records passed over")
    assert "0:3 of features, 0:4 of features" in line
    assert line.endswith("0:22 of features and others")


def test_without_record_keys_nobody_is_asked_who_wrote() -> None:
    """On loopback no record is signed."""
    letter = Letter((0, 1), 0, {"topic": f"bank-{RAW.name}".encode()}, b"", b"")
    mark = Letter((0, 2), 0, {REPLAYED: b"0:1"}, b"", b"")

    assert list(only_letters([letter, mark], KAFKA)) == [letter]
    assert mark.replayed == "0:1"


def test_writer_that_is_no_room_is_its_senders_word() -> None:
    """Of a record that nobody signed, the last header may be anything, and goes to no terminal."""
    assert _read("\x1b[2J", f"bank-{RAW.name}").writer == ""
