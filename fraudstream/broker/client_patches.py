"""Patches of both Kafka clients: they read record batches through `record_batches`.

What of a signed topic carries no right MAC of its writer never comes out of a poll: it is
quarantined before anybody parses it, and reading goes on behind it.

A record that cannot be read would otherwise raise out of every poll, at the same offset, for ever.
Here it is counted, named in the log and passed over; a consumer that buries such records itself
has them delivered with an `Unreadable` as their value.

Private names used here, which an upgrade may take away (a test notices):
kafka-python 3.0.12: `kafka.consumer.fetcher.MemoryRecords`, `Fetcher.PartitionRecords` and its
constructor, `KafkaConsumer._fetcher`. aiokafka 0.14.0: `aiokafka.consumer.fetcher.MemoryRecords`,
`aiokafka.consumer.fetcher.PartitionRecords` and its constructor.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import aiokafka.consumer.fetcher as aiokafka_fetcher
import kafka.consumer.fetcher as kafka_fetcher
from kafka import KafkaConsumer

from fraudstream.broker.wire.record_batches import PassOver, RecordBatches, Trusted
from fraudstream.broker.wire.record_keys import keys_of
from fraudstream.broker.wire.record_macs import Origin
from fraudstream.broker.wire.records import MOST_KEPT_BYTES, Record, Unreadable
from fraudstream.reject_reasons import QuarantineReason
from fraudstream.runtime.allowance import MOST_TOLD, Allowance
from fraudstream.telemetry.metrics import UNREADABLE_RECORDS
from fraudstream.topics import base_name

_LOG: Final = logging.getLogger(__name__)
_ALLOWANCE: Final = Allowance(MOST_TOLD)


def _note_of(tp: Any, begin: int) -> PassOver:
    """Return what counts and names the unreadable records of a fetch from `begin`."""

    def note(offset: int, found: Unreadable) -> None:
        # A fetch gives whole batches: what lies before its offset was read before.
        if offset >= begin:
            UNREADABLE_RECORDS.labels(base_name(tp.topic)).inc()
            untold = _ALLOWANCE.take(tp.topic)
            if untold is None:
                return
            _LOG.error(
                "%s, partition %d, offset %d cannot be read and is passed over: %s%s",
                tp.topic,
                tp.partition,
                offset,
                found.cause,
                f"; so were {untold} before it" if untold else "",
            )

    return note


class _Refused(NamedTuple):
    """A record that is not trusted, as the quarantine wants it."""

    topic: str
    partition: int
    offset: int
    value: bytes | None


def _trust_of(tp: Any, begin: int) -> Trusted | None:
    """Return what lets trusted records of a fetch from `begin` through; None where all pass."""
    keys = keys_of(tp.topic)
    if keys is None:
        return None

    def refuse(records: Sequence[Record], cause: str) -> None:
        # The quarantine's own producer gets its options where these patches are installed.
        from fraudstream.broker.quarantine import report

        for record in records:
            if record.offset >= begin:
                refused = _Refused(tp.topic, tp.partition, record.offset, record.value)
                report(refused, QuarantineReason.UNTRUSTED, cause)

    where = Origin(base_name(tp.topic), tp.partition)
    return lambda records: keys.trusted(records, where, refuse)


class _DeliveringRecords(kafka_fetcher.Fetcher.PartitionRecords):  # type: ignore[misc]  # no types
    """kafka-python's records of a fetch, with what cannot be read among them."""

    def __init__(self, fetch_offset: int, tp: Any, records: RecordBatches, **options: Any) -> None:
        # The one that delivers them reads what banks write, and no more of a value than it decodes.
        if records.pass_over is None:
            records.most_bytes = MOST_KEPT_BYTES
        records.trusted = _trust_of(tp, fetch_offset)
        # The batches see to their checksums.
        super().__init__(fetch_offset, tp, records, **options | {"check_crcs": False})


class _KafkaPythonRecords(_DeliveringRecords):
    """The same without it."""

    def __init__(self, fetch_offset: int, tp: Any, records: RecordBatches, **options: Any) -> None:
        records.pass_over = _note_of(tp, fetch_offset)
        super().__init__(fetch_offset, tp, records, **options)


class _AiokafkaRecords(aiokafka_fetcher.PartitionRecords):  # type: ignore[misc]  # ships no types
    """Tells the batches of a fetch where they come from."""

    def __init__(
        self, tp: Any, records: RecordBatches, aborted: Any, fetch_offset: int, *options: Any
    ) -> None:
        records.pass_over = _note_of(tp, fetch_offset)
        records.trusted = _trust_of(tp, fetch_offset)
        super().__init__(tp, records, aborted, fetch_offset, *options)


def install() -> None:
    """Have every consumer of this process read through them."""
    kafka_fetcher.MemoryRecords = RecordBatches
    kafka_fetcher.Fetcher.PartitionRecords = _KafkaPythonRecords
    aiokafka_fetcher.MemoryRecords = RecordBatches
    aiokafka_fetcher.PartitionRecords = _AiokafkaRecords


def deliver_unreadable(consumer: KafkaConsumer) -> None:
    """Have a consumer deliver what cannot be read, as records with an `Unreadable` value."""
    consumer._fetcher.PartitionRecords = _DeliveringRecords
