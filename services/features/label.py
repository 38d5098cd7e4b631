"""The label role: settled labels on to their entities. Keeps no state: the entity shard does."""

from __future__ import annotations

import logging

from aiokafka import ConsumerRecord
from google.protobuf.message import DecodeError

from fraudstream.batch_agent import Finished, Records
from fraudstream.reject_reasons import RejectReason
from fraudstream.transaction import TimeBounds, fault_of_time
from fraudstream.v1.label_pb2 import Label
from services.features.entity_rows import EntityRowSender
from services.features.letters import Letters
from services.features.rows import BadRow

_BOUNDS = TimeBounds()


class LabelRole:
    """Handles polls of the labels topic. A label that comes twice is known to its entity shard."""

    def __init__(self, sender: EntityRowSender, letters: Letters) -> None:
        """Keep the parts."""
        self._sender = sender
        self._letters = letters

    def assigned(self, partitions: set[int]) -> None:
        """Take note; nothing is kept of a partition."""
        logging.getLogger(__name__).info("labels of partitions %s", sorted(partitions))

    async def handle(self, records: Records) -> Finished:
        """Send every label on; done only when all are acknowledged."""
        finished: dict[int, int] = {}
        for partition, lot in records.items():
            decoded = [decode_label(record) for record in lot]
            await self._letters.bury([row for row in decoded if isinstance(row, BadRow)])
            await self._sender.send_labels([r for r in decoded if not isinstance(r, BadRow)])
            finished[partition] = lot[-1].offset + 1
        return finished


def decode_label(record: ConsumerRecord) -> tuple[Label, ConsumerRecord] | BadRow:
    """Decode one record; what cannot be the label of a transaction is a `BadRow`, not an error."""
    try:
        label = Label.FromString(record.value or b"")
    except DecodeError:
        return BadRow(record, "DECODE", "expected a Label, found other bytes")
    if record.key is None or record.key != label.card_token.encode():
        return BadRow(record, "KEY_MISMATCH", "expected the card token as key, found another")
    fault = fault_of_time(label.event_time_ms, record.timestamp, _BOUNDS)
    # A verdict without a time was given when it arrived.
    if fault is None and 0 < label.settled_at_ms < label.event_time_ms:
        fault = RejectReason.LABEL_TIME
    return BadRow(record, fault.value, fault.text) if fault else (label, record)
