"""The quarantine on a real broker: what it says of a record, and what it never does to a reader."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

import pytest

from fraudstream.broker import quarantine
from fraudstream.broker.log_reader import LogRecord, read_topic
from fraudstream.broker.quarantine import entry_of, open_quarantine, report
from fraudstream.reject_reasons import QuarantineReason
from fraudstream.settings import KafkaSettings
from fraudstream.telemetry.metrics import QUARANTINE_LOST, QUARANTINED
from fraudstream.topics import ALERTS, QUARANTINE
from harness.settings import kafka_settings_in

_VALUE = b"4000 0000 0000 0002"


@pytest.fixture(autouse=True)
def no_writer_is_left() -> Iterator[None]:
    """Other tests of this process write nothing."""
    yield
    quarantine._Process.writer = None


def bad(kafka: KafkaSettings, offset: int = 7) -> LogRecord:
    """Return a record that is no alert."""
    return LogRecord(kafka.topic(ALERTS), 2, offset, 0, b"", _VALUE, ())


def test_entry_says_where_who_and_why_and_nothing_of_the_content(topics: Mapping[str, str]) -> None:
    """Its value may hold a card number; size and hash are enough to find and compare it."""
    kafka = kafka_settings_in(topics)
    writer = open_quarantine(kafka, "console")
    report(bad(kafka), QuarantineReason.BOUNDS, "score: expected 0 to 1")
    report(bad(kafka), QuarantineReason.BOUNDS, "score: expected 0 to 1")
    assert writer.drain(30.0)

    (entry,) = read_topic(kafka, QUARANTINE)

    assert dict(entry.headers) == {
        "reason": b"BOUNDS",
        "topic": kafka.topic(ALERTS).encode(),
        "partition": b"2",
        "offset": b"7",
        "reader": b"console",
    }
    assert entry.key == f"{kafka.topic(ALERTS)}/2/7".encode()
    assert json.loads(entry.value) == {
        "message": "score: expected 0 to 1",
        "value_bytes": len(_VALUE),
        "value_sha256": hashlib.sha256(_VALUE).hexdigest(),
    }


def test_broker_that_is_away_costs_entries_and_no_reader(free_kafka: KafkaSettings) -> None:
    """What cannot be written is counted, and `report` came back at once."""
    lost = QUARANTINE_LOST.labels("not_sent")
    told = QUARANTINED.labels(ALERTS.name, "DECODE")
    before, told_before = lost._value.get(), told._value.get()
    writer = open_quarantine(free_kafka, "console")

    for offset in range(3):
        report(bad(free_kafka, offset), QuarantineReason.DECODE, "expected an alert")

    assert told._value.get() == told_before + 3
    assert writer.drain(90.0)
    assert lost._value.get() == before + 3


def test_queue_is_bounded(free_kafka: KafkaSettings) -> None:
    """A topic full of foreign records costs a reader no memory."""
    lost = QUARANTINE_LOST.labels("queue_full")
    before = lost._value.get()
    writer = open_quarantine(free_kafka, "console")

    for offset in range(quarantine.LONGEST + 2_000):
        writer.put(entry_of(bad(free_kafka, offset), QuarantineReason.DECODE, "", "console"))

    assert lost._value.get() > before


@pytest.fixture
def free_kafka() -> KafkaSettings:
    """Settings of a broker that is not there."""
    return KafkaSettings(bootstrap="127.0.0.1:1", is_embedded=True)
