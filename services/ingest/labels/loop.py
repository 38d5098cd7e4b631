"""`labels follow`: labels that banks write to `labels.raw.v1`, on to `labels.settled.v1`.

At least once: offsets are committed up to the first label that still waits, after everything before
it is acknowledged; a label that is read again has the same id. One whose transaction is not in the
archive waits for it, for the archive is a minute behind; it keeps no other label back. What is
refused is a dead letter, with the original sealed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Final

from google.protobuf.message import DecodeError
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from fraudstream.broker.group_reading import poll_group, positions
from fraudstream.broker.wire.records import Unreadable
from fraudstream.dead_letters.letter import DeadLetter, LetterWriter, source_of
from fraudstream.errors import InvalidTransaction
from fraudstream.names import word_of
from fraudstream.reject_reasons import RejectReason
from fraudstream.telemetry.metrics import BANK_LABELS
from fraudstream.transaction.formats import JSON, PROTOBUF, content_type_of
from fraudstream.transaction.validate import MAX_VALUE_BYTES
from fraudstream.v1.label_pb2 import BankLabel as BankLabelMessage
from fraudstream.v1.label_pb2 import Disposition, Label
from services.ingest.feeds import Feeds
from services.ingest.labels.bank_label import BankLabel, read_bank_label
from services.ingest.labels.settler import LabelOutlet, LabelSettler, Settled
from services.ingest.pan_opener import PanOpener
from services.ingest.processor import RawRecord

_LOG: Final = logging.getLogger(__name__)
_POLL_MS: Final = 500
_RETRY_MS: Final = 15_000
# A label without event time is looked for in the whole archive, once, and then in what is new. All
# such labels together have that many times the reading's time between two readings.
_REST: Final = 9
# Waiting labels are in memory, each topic's within an equal part of this: 10,000 ordinary ones.
# Beyond it the topic's oldest are refused, and can be replayed.
_WAITING_BYTES: Final = 32 << 20
_LABEL_BYTES: Final = 3_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A label that is not settled yet, and whether it was looked up in vain."""

    record: RawRecord
    label: BankLabel
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class LabelIntake:
    """How labels are taken in.

    Attributes:
        feeds: Say which banks' labels a topic may carry.
        pans: Opens sealed card numbers.
        letters: Writes dead letters.
        orphan_after_ms: How long a label waits for its transaction to be archived.
    """

    feeds: Feeds
    pans: PanOpener
    letters: LetterWriter
    orphan_after_ms: int


class LabelLoop:
    """Reads the raw topic of labels until it is told to stop.

    Args:
        consumer: Subscribed, with automatic commits off; `forget` is called before it rebalances.
        settler: Finds transactions.
        outlet: Sends labels and dead letters.
        intake: Opens labels, and refuses them.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        settler: LabelSettler,
        outlet: LabelOutlet,
        intake: LabelIntake,
    ) -> None:
        self._consumer = consumer
        self._settler = settler
        self._outlet = outlet
        self._intake = intake
        self._clock_ms = settler.clock_ms
        self._waiting: list[Waiting] = []
        self._read_to: dict[TopicPartition, int] = {}
        self._next_look_ms = 0

    def forget(self) -> None:
        """Drop what waits: whoever has the partitions next reads it from the last commit."""
        self._waiting = []
        self._read_to = {}

    def run(self, stop: Event) -> None:
        """Work until `stop` is set.

        Raises:
            BrokerUnavailable: Labels or dead letters were not acknowledged.
        """
        while not stop.is_set():
            poll = poll_group(self._consumer, _POLL_MS)
            records = [record for chunk in poll.values() for record in chunk]
            before, self._read_to = self._read_to, positions(self._consumer)
            # Markers of transactions are read past too, and bring no record.
            if records or self._is_due() or self._read_to != before:
                self._work(records)

    def _is_due(self) -> bool:
        return bool(self._waiting) and self._clock_ms() >= self._next_look_ms

    def _work(self, records: Sequence[RawRecord]) -> None:
        letters = []
        for record in records:
            try:
                fields = self._intake.pans.open_fields(fields_of(record))
                label = read_bank_label(fields)
                self._intake.feeds.of(record.topic).check_bank(label.bank_id)
                self._waiting.append(Waiting(record, label))
            except InvalidTransaction as exc:
                letters.append(self._letter(record, exc))
        labels = self._settle(letters)
        self._outlet.send(labels, letters)
        BANK_LABELS.labels("settled").inc(len(labels))
        BANK_LABELS.labels("refused").inc(len(letters))
        self._commit()

    def _settle(self, letters: list[DeadLetter]) -> list[Label]:
        """Return the labels whose transaction is known, and keep what has to wait."""
        labels: list[Label] = []
        waiting: list[Waiting] = []
        for one, outcome in self._looked_up():
            if outcome is None:
                waiting.append(one)
            elif isinstance(outcome, Label):
                labels.append(outcome)
            elif outcome.reason == RejectReason.LABEL_ORPHAN and self._is_young(one.record):
                waiting.append(replace(one, is_known=True))
            else:
                letters.append(self._letter(one.record, outcome))
        crowded, self._waiting = crowded_of(waiting)
        orphan = InvalidTransaction(RejectReason.LABEL_ORPHAN, RejectReason.LABEL_ORPHAN.text)
        letters += [self._letter(one.record, orphan) for one in crowded]
        return labels

    def _looked_up(self) -> list[tuple[Waiting, Settled | None]]:
        """Return the outcome of each label; None of one that has to wait for the next look."""
        began_ms = self._clock_ms()
        is_due = self._is_due()
        asked = [one for one in self._waiting if is_due or one.label.event_time_ms is not None]
        new = {one.label.key for one in asked if not one.is_known}
        again = {one.label.key for one in asked} - new
        outcomes = dict(
            zip(
                map(id, asked),
                self._settler.settle([one.label for one in asked], again),
                strict=True,
            )
        )
        if is_due:
            now_ms = self._clock_ms()
            self._next_look_ms = now_ms + max(_RETRY_MS, _REST * (now_ms - began_ms))
        return [(one, outcomes.get(id(one))) for one in self._waiting]

    def _is_young(self, record: RawRecord) -> bool:
        return self._clock_ms() - record.timestamp < self._intake.orphan_after_ms

    def _letter(self, record: RawRecord, fault: InvalidTransaction) -> DeadLetter:
        _LOG.warning("%s at %s/%d/%d", fault.reason, record.topic, record.partition, record.offset)
        return self._intake.letters.letter_of(source_of(record), fault.reason, fault.message)

    def _commit(self) -> None:
        """Commit each partition up to the first label that waits."""
        ends = dict(self._read_to)
        for one in self._waiting:
            index = TopicPartition(one.record.topic, one.record.partition)
            ends[index] = min(ends.get(index, one.record.offset), one.record.offset)
        try:
            self._consumer.commit({p: OffsetAndMetadata(end, "", -1) for p, end in ends.items()})
        except KafkaError as exc:
            _LOG.warning("commit refused, %s: labels will be read again", type(exc).__name__)


def crowded_of(waiting: Sequence[Waiting]) -> tuple[list[Waiting], list[Waiting]]:
    """Return what is too much to keep, and what is kept; no topic takes the room of another."""
    topics = {one.record.topic for one in waiting}
    room = dict.fromkeys(topics, _WAITING_BYTES // max(1, len(topics)))
    crowded: list[Waiting] = []
    kept: list[Waiting] = []
    for one in reversed(waiting):
        record = one.record
        around = sum(len(name) + len(text or b"") for name, text in record.headers)
        size = len(record.value or b"") + len(record.key or b"") + around
        room[record.topic] -= _LABEL_BYTES + size
        (kept if room[record.topic] >= 0 else crowded).append(one)
    return crowded[::-1], kept[::-1]


def fields_of(record: RawRecord) -> dict[str, object] | None:
    """Return the fields of a raw label; None where it is no JSON object and no message.

    Raises:
        InvalidTransaction: It cannot be read, is too large, or says another content type.
    """
    value = record.value or b""
    if isinstance(value, Unreadable):
        raise InvalidTransaction(value.reason, value.cause)
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidTransaction(RejectReason.TOO_LARGE, RejectReason.TOO_LARGE.text)
    content_type = content_type_of(record.headers)
    try:
        if content_type == PROTOBUF:
            return _message_fields(BankLabelMessage.FromString(value))
        fields = json.loads(value) if content_type == JSON else ()
    except (DecodeError, ValueError, RecursionError):
        return None
    if fields == ():
        raise InvalidTransaction(RejectReason.CONTENT_TYPE, RejectReason.CONTENT_TYPE.text)
    return fields if isinstance(fields, dict) else None


def _message_fields(message: BankLabelMessage) -> dict[str, object]:
    fields: dict[str, object] = {field.name: value for field, value in message.ListFields()}
    if message.disposition in Disposition.values():
        fields["disposition"] = word_of(Disposition, message.disposition)
    return fields
