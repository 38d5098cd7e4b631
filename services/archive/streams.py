"""What is archived: each topic's noun, and how its records become a batch of columns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa
from google.protobuf.message import DecodeError

from fraudstream.canonical import ACCEPTED_SCHEMA, DECISION_SCHEMA, LABEL_SCHEMA, SHADOW_SCHEMA
from fraudstream.canonical_batches import (
    LogRows,
    accepted_batch,
    decision_batch,
    label_batch,
    shadow_batch,
)
from fraudstream.topics import ACCEPTED, DECISIONS, LABELS, SHADOWED, Topic
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision, ShadowScore
from fraudstream.v1.label_pb2 import Label
from fraudstream.v1.transaction_pb2 import Transaction

_LOG: Final = logging.getLogger(__name__)


class LogRecord(Protocol):
    """A record as kafka-python gives it."""

    @property
    def partition(self) -> int:
        """Partition that it was read from."""
        ...

    @property
    def offset(self) -> int:
        """Place in the partition."""
        ...

    @property
    def timestamp(self) -> int:
        """Epoch milliseconds."""
        ...

    @property
    def value(self) -> bytes | None:
        """The serialised message."""
        ...


@dataclass(frozen=True, slots=True)
class Stream:
    """One archived topic.

    Attributes:
        noun: Name of its folder, and label of its metrics.
        topic: What is read.
        schema: Columns of its files.
        decode: Makes a message of a record's value; None where it is none that may be kept.
        batch_of: Makes the columns of messages.
    """

    noun: str
    topic: Topic
    schema: pa.Schema
    # The message is whatever `batch_of` takes.
    decode: Callable[[bytes], Any | None]
    batch_of: Callable[[Sequence[Any], LogRows], pa.RecordBatch]

    def rows_of(self, partition: int, records: Sequence[LogRecord]) -> pa.RecordBatch:
        """Return the readable records of one partition as columns; log where the others lie."""
        messages, offsets, times_ms = [], [], []
        for record in records:
            message = self._message_of(record)
            if message is None:
                _LOG.error("%s: unreadable record at %d:%d", self.noun, partition, record.offset)
                continue
            messages.append(message)
            offsets.append(record.offset)
            times_ms.append(record.timestamp)
        return self.batch_of(messages, LogRows(partition, offsets, times_ms))

    def _message_of(self, record: LogRecord) -> Any | None:
        try:
            return self.decode(record.value or b"")
        except DecodeError:
            return None


def _transaction(value: bytes) -> Transaction | None:
    """Return an accepted transaction. One without a token, or with a card number, is none."""
    transaction = AcceptedTransaction.FromString(value).transaction
    return transaction if transaction.card_token else None


def _decision(value: bytes) -> Decision | None:
    """Return a decision; one whose transaction has a card number is none."""
    decision = Decision.FromString(value)
    return decision if decision.card_token and not decision.transaction.pan else None


def _shadow(value: bytes) -> ShadowScore | None:
    score = ShadowScore.FromString(value)
    return score if score.card_token else None


def _label(value: bytes) -> Label | None:
    label = Label.FromString(value)
    return label if label.card_token else None


STREAMS: Final = (
    Stream("accepted", ACCEPTED, ACCEPTED_SCHEMA, _transaction, accepted_batch),
    Stream("decisions", DECISIONS, DECISION_SCHEMA, _decision, decision_batch),
    Stream("shadows", SHADOWED, SHADOW_SCHEMA, _shadow, shadow_batch),
    Stream("labels", LABELS, LABEL_SCHEMA, _label, label_batch),
)
