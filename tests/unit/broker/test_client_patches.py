"""Both Kafka clients read through the patches; an upgrade that undoes them is noticed here."""

from __future__ import annotations

import inspect
from typing import Any

import aiokafka.consumer.fetcher as aiokafka_fetcher
import kafka.consumer.fetcher as kafka_fetcher
import pytest
from aiokafka.structs import TopicPartition

import fraudstream.broker.clients  # noqa: F401  # whoever makes a client imports it
from fraudstream.broker.client_patches import _DeliveringRecords
from fraudstream.broker.wire.records import Unreadable
from fraudstream.telemetry.metrics import UNREADABLE_RECORDS
from fraudstream.topics import LABELS
from tests.material.kafka_bytes import at_offset, batch, batch_of, record_body

PLACE = TopicPartition(f"bank-{LABELS.name}", 3)
DATA = batch_of([record_body(0, b"first"), b"junk", record_body(2, b"last")])


def read_by_kafka_python(data: bytes, begin: int = 100, topic: str = PLACE.topic) -> list[Any]:
    """Read a fetch as kafka-python's fetcher does."""
    records = kafka_fetcher.MemoryRecords(data)
    place = TopicPartition(topic, PLACE.partition)
    found = kafka_fetcher.Fetcher.PartitionRecords(begin, place, records)
    return list(found.take())


def read_by_aiokafka(data: bytes, begin: int = 100, topic: str = PLACE.topic) -> list[Any]:
    """Read a fetch as aiokafka's fetcher does."""
    records = aiokafka_fetcher.MemoryRecords(data)
    place = TopicPartition(topic, PLACE.partition)
    return list(
        aiokafka_fetcher.PartitionRecords(
            place, records, [], begin, None, None, True, aiokafka_fetcher.READ_COMMITTED
        )
    )


READERS = (read_by_kafka_python, read_by_aiokafka)


def counted() -> float:
    """Return how many records of the topic were passed over."""
    return float(UNREADABLE_RECORDS.labels(LABELS.name)._value.get())


@pytest.mark.parametrize("read", READERS)
def test_unreadable_record_is_passed_over_counted_and_named(
    read: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its neighbours come through; the log says where it lies and what is wrong."""
    before = counted()

    found = read(DATA)

    assert [(record.offset, record.value) for record in found] == [(100, b"first"), (102, b"last")]
    assert counted() == before + 1
    assert f"bank-{LABELS.name}, partition 3, offset 101 cannot be read" in caplog.text


@pytest.mark.parametrize("read", READERS)
def test_what_lies_before_the_fetch_is_counted_once(read: Any) -> None:
    """A fetch in the middle of a batch gives the whole batch again."""
    before = counted()

    found = read(DATA, 102)

    assert [record.value for record in found] == [b"last"]
    assert counted() == before


def test_consumer_that_buries_them_gets_unreadable_records() -> None:
    """Ingest has dead letters for them."""
    records = kafka_fetcher.MemoryRecords(DATA)

    found = _DeliveringRecords(100, PLACE, records).take()

    assert [isinstance(record.value, Unreadable) for record in found] == [False, True, False]


@pytest.mark.parametrize("read", READERS)
def test_control_batch_of_any_bytes_hides_nothing(read: Any) -> None:
    """A marker that cannot be read ends a transaction; what follows is read."""
    marker = batch(b"junk", attributes=0x30)

    found = read(marker + at_offset(101, batch_of([record_body(0, b"next")])))

    assert [record.value for record in found] == [b"next"]


@pytest.mark.parametrize(
    "function",
    [
        kafka_fetcher.Fetcher._parse_fetched_data,
        aiokafka_fetcher.Fetcher._proc_fetch_request,
    ],
)
def test_fetchers_make_batches_where_the_seam_is(function: Any) -> None:
    """Names in the libraries' own source: another release may have others."""
    source = inspect.getsource(function)

    assert "= MemoryRecords(" in source
    assert "PartitionRecords(" in source
