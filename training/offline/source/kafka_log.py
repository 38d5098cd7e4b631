"""The log as a source: ranges of offsets of Kafka's topics as canonical columns.

Rows that the features service would bury as bad letters are left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from google.protobuf.message import DecodeError
from kafka.consumer.fetcher import ConsumerRecord

from fraudstream.archive.batches import LogRows, accepted_batch, label_batch
from fraudstream.broker.log_reader import LogReader
from fraudstream.broker.topic_info import find_log
from fraudstream.errors import BrokerUnavailable
from fraudstream.features.state import is_packable
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, DECISIONS, LABELS
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision
from fraudstream.v1.label_pb2 import Label
from fraudstream.v1.transaction_pb2 import Transaction
from training.offline.layout import CHUNK_ROWS
from training.offline.plan import Content, Found, Unit, fingerprint_of
from training.offline.source.checks import LARGEST_AMOUNT, YEAR_2000_MS, YEAR_9999_MS, Columns

_TOPICS: Final = {
    Content.ROWS: ACCEPTED,
    Content.DECISIONS: DECISIONS,
    Content.LABELS: LABELS,
}
_LOT_RECORDS: Final = 10_000

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


def find_logs(settings: KafkaSettings) -> Found:
    """Return what the topics hold now: transactions, decisions and labels.

    Raises:
        InvalidSettings: A topic does not exist.
        BrokerUnavailable: The broker does not answer.
    """
    units: list[Unit] = []
    for content, topic in _TOPICS.items():
        find_log(settings, topic)
        with LogReader(settings, [topic]) as reader:
            for tp, bounds in zip(reader.partitions, reader.bounds(), strict=True):
                for first in range(bounds.begin, bounds.end, CHUNK_ROWS):
                    last = min(first + CHUNK_ROWS, bounds.end)
                    units.append(Unit(content, tp.topic, tp.partition, first, last))
    names = [(settings.topic(topic), 0, 0) for topic in _TOPICS.values()]
    return Found(tuple(units), True, fingerprint_of([(settings.bootstrap, 0, 0), *names]))


def read_range(unit: Unit, unreadable: Unreadable) -> Iterator[Columns]:
    """Yield the records of a range of offsets, chunk by chunk, as canonical columns.

    Raises:
        BrokerUnavailable: The broker does not answer, or the log no longer has the range.
    """
    settings, topic = KafkaSettings.read(), _TOPICS[unit.content]
    with LogReader(settings, [topic], partition=unit.part, most_records=_LOT_RECORDS) as reader:
        reader.seek(unit.begin)
        for chunk in reader.chunks_to_end():
            yield from _columns(unit, chunk, unreadable)
            if chunk[-1].offset + 1 >= unit.end:
                break
        (held,) = reader.bounds()
    if unit.begin < held.begin or held.end < unit.end:
        msg = (
            f"{unit.name}/{unit.part}: expected offsets {unit.begin} to {unit.end}, the log has"
            f" {held.begin} to {held.end}"
        )
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
