"""What is archived: each topic's noun, and how its records become a batch of columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from google.protobuf.message import Message

from fraudstream.archive.batches import (
    LogRows,
    accepted_batch,
    decision_batch,
    label_batch,
    shadow_batch,
)
from fraudstream.archive.columns import (
    ACCEPTED_SCHEMA,
    DECISION_SCHEMA,
    LABEL_SCHEMA,
    SHADOW_SCHEMA,
)
from fraudstream.broker.messages import StampedRecord, message_of
from fraudstream.topics import ACCEPTED, DECISIONS, LABELS, SHADOWED, Topic
from fraudstream.v1.decision_pb2 import AcceptedTransaction, Decision, ShadowScore
from fraudstream.v1.label_pb2 import Label


@dataclass(frozen=True, slots=True)
class Stream:
    """One archived topic.

    Attributes:
        noun: Name of its folder, and label of its metrics.
        topic: What is read.
        schema: Columns of its files.
        kind: What its records hold.
        batch_of: Makes the columns of messages.
    """

    noun: str
    topic: Topic
    schema: pa.Schema
    kind: type[Message]
    # The message is whatever `kind` is.
    batch_of: Callable[[Sequence[Any], LogRows], pa.RecordBatch]

    def rows_of(self, partition: int, records: Sequence[StampedRecord]) -> pa.RecordBatch:
        """Return the records of one partition that are ours as columns; tell of the others."""
        messages, offsets, times_ms = [], [], []
        for record in records:
            message = message_of(self.kind, record)
            if message is None:
                continue
            messages.append(message)
            offsets.append(record.offset)
            times_ms.append(record.timestamp)
        return self.batch_of(messages, LogRows(partition, offsets, times_ms))


def _accepted_batch(messages: Sequence[AcceptedTransaction], rows: LogRows) -> pa.RecordBatch:
    return accepted_batch([message.transaction for message in messages], rows)


STREAMS: Final = (
    Stream("accepted", ACCEPTED, ACCEPTED_SCHEMA, AcceptedTransaction, _accepted_batch),
    Stream("decisions", DECISIONS, DECISION_SCHEMA, Decision, decision_batch),
    Stream("shadows", SHADOWED, SHADOW_SCHEMA, ShadowScore, shadow_batch),
    Stream("labels", LABELS, LABEL_SCHEMA, Label, label_batch),
)
