"""The log as a source: ranges of offsets of Kafka's topics as canonical columns.

Rows that the features service would bury as bad letters are left out and counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from google.protobuf.message import DecodeError
from kafka import KafkaConsumer
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from fraudstream.bus import fetch_wait_ms, kafka_python_options
from fraudstream.canonical_batches import LogRows, accepted_batch, label_batch
from fraudstream.errors import BrokerUnavailable, InvalidSettings
from fraudstream.features.state import is_packable
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, DECISIONS, LABELS, Topic
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.label_pb2 import Label
from fraudstream.v1.transaction_pb2 import Transaction
from training.offline.checks import LARGEST_AMOUNT, YEAR_2000_MS, YEAR_9999_MS, Columns
from training.offline.layout import CHUNK_ROWS
from training.offline.plan import Content, Found, Unit, fingerprint_of

_TOPICS: Final = {
    Content.ROWS: ACCEPTED,
    Content.DECISIONS: DECISIONS,
    Content.LABELS: LABELS,
}
_LOT_RECORDS: Final = 10_000
_SILENCE_S: Final = 60.0
_POLL_MS: Final = 500

Message = Transaction | Label | Decision
_PARSERS: Final[Mapping[Content, Callable[[bytes], Message]]] = {
    Content.ROWS: lambda value: AcceptedTransaction.FromString(value).transaction,
    Content.DECISIONS: Decision.FromString,
    Content.LABELS: Label.FromString,
}


@dataclass(slots=True)
class Unreadable:
    """How many records were left out."""

    count: int = 0


@contextmanager
def _consumer(settings: KafkaSettings) -> Iterator[KafkaConsumer]:
    """Yield a consumer; what the broker refuses becomes our error."""
    options = kafka_python_options(settings) | {
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "max_poll_records": _LOT_RECORDS,
        "fetch_max_wait_ms": fetch_wait_ms(settings),
    }
    try:
        consumer = KafkaConsumer(**options)
        try:
            yield consumer
        finally:
            consumer.close()
    except KafkaError as exc:
        msg = f"the broker at {settings.bootstrap} does not answer: {type(exc).__name__}"
        raise BrokerUnavailable(msg) from exc


def find_logs(settings: KafkaSettings) -> Found:
    """Return what the topics hold now: transactions, decisions and labels.

    Raises:
        InvalidSettings: A topic does not exist.
        BrokerUnavailable: The broker does not answer.
    """
    units: list[Unit] = []
    with _consumer(settings) as consumer:
        for content, topic in _TOPICS.items():
            for place in _places(consumer, settings, topic):
                begin = consumer.beginning_offsets([place])[place]
                end = _end_of(consumer, place, begin)
                for first in range(begin, end, CHUNK_ROWS):
                    last = min(first + CHUNK_ROWS, end)
                    units.append(Unit(content, place.topic, place.partition, first, last))
    names = [(settings.topic(topic), 0, 0) for topic in _TOPICS.values()]
    return Found(tuple(units), True, fingerprint_of([(settings.bootstrap, 0, 0), *names]))


def _places(
    consumer: KafkaConsumer, settings: KafkaSettings, topic: Topic
) -> Sequence[TopicPartition]:
    name = settings.topic(topic)
    partitions = consumer.partitions_for_topic(name)
    if not partitions:
        msg = f"topic {name} does not exist; run `python -m services.ingest topics create`"
        raise InvalidSettings(msg)
    return [TopicPartition(name, partition) for partition in sorted(partitions)]


def _end_of(consumer: KafkaConsumer, place: TopicPartition, begin: int) -> int:
    """Return the offset after the last.

    The embedded broker says as its end where its last *batch* begins, plus one; what it says
    beside a fetched record is right.
    """
    end = int(consumer.end_offsets([place])[place])
    if end <= begin:
        return end
    consumer.assign([place])
    consumer.seek(place, end - 1)
    consumer.poll(timeout_ms=_POLL_MS, max_records=1)
    return max(end, consumer.highwater(place) or 0)


def read_range(unit: Unit, unreadable: Unreadable) -> Iterator[Columns]:
    """Yield the records of a range of offsets, lot by lot, as canonical columns.

    Raises:
        BrokerUnavailable: The broker does not answer, or the log no longer begins so early.
    """
    place = TopicPartition(unit.name, unit.part)
    with _consumer(KafkaSettings.read()) as consumer:
        consumer.assign([place])
        consumer.seek(place, unit.begin)
        gives_up_at = time.monotonic() + _SILENCE_S
        while consumer.position(place) < unit.end:
            records = consumer.poll(timeout_ms=_POLL_MS).get(place, [])
            if records:
                gives_up_at = time.monotonic() + _SILENCE_S
                yield from _columns(unit, records, unreadable)
            elif time.monotonic() > gives_up_at:
                msg = f"{unit.name}/{unit.part}: nothing came for {_SILENCE_S:g} s"
                raise BrokerUnavailable(msg)


def _columns(
    unit: Unit, records: Sequence[ConsumerRecord], unreadable: Unreadable
) -> Iterator[Columns]:
    wanted = [record for record in records if record.offset < unit.end]
    decoded = [(record, _decode(unit.content, record)) for record in wanted]
    kept = [(record, message) for record, message in decoded if message is not None]
    unreadable.count += len(wanted) - len(kept)
    if not kept:
        return
    rows = LogRows(
        unit.part,
        [record.offset for record, _ in kept],
        [record.timestamp for record, _ in kept],
    )
    name = f"{unit.name}/{unit.part}"
    batch = _batch(unit.content, [message for _, message in kept], rows)
    yield Columns(batch, name, rows.offsets[0], rows.offsets[0])


def _decode(content: Content, record: ConsumerRecord) -> Message | None:
    """Return a record's message, None where the stream would not take it either."""
    try:
        message = _PARSERS[content](record.value or b"")
    except DecodeError:
        return None
    if not message.transaction_id or record.key != message.card_token.encode():
        return None
    is_taken = not isinstance(message, Transaction) or (
        is_packable(message) and message.amount_reference_minor <= LARGEST_AMOUNT
    )
    return message if is_taken and YEAR_2000_MS <= message.event_time_ms < YEAR_9999_MS else None


def _batch(content: Content, messages: Sequence[Message], rows: LogRows) -> pa.RecordBatch:
    if content is Content.ROWS:
        return accepted_batch([m for m in messages if isinstance(m, Transaction)], rows)
    if content is Content.LABELS:
        return label_batch([m for m in messages if isinstance(m, Label)], rows)
    return _digest_batch([m for m in messages if isinstance(m, Decision)], rows)


def _digest_batch(decisions: Sequence[Decision], rows: LogRows) -> pa.RecordBatch:
    names = ("bank_id", "card_token", "transaction_id", "digest")
    columns = {name: pa.array([getattr(m, name) for m in decisions]) for name in names}
    columns["log_partition"] = pa.repeat(rows.partition, len(decisions))
    columns["log_offset"] = pa.array(rows.offsets)
    return pa.RecordBatch.from_pydict(columns)
