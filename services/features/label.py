"""The label role: settled labels on to their entities. Keeps no state: the entity shard does."""

from __future__ import annotations

import logging

from aiokafka import ConsumerRecord
from google.protobuf.message import DecodeError

from fraudstream.batch_agent import Finished, Records
from fraudstream.v1.label_pb2 import Label
from services.features.entity_rows import EntityRowSender
from services.features.letters import Letters
from services.features.rows import BadRow


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
            decoded = [_decode(record) for record in lot]
            await self._letters.bury([row for row in decoded if isinstance(row, BadRow)])
            await self._sender.send_labels([r for r in decoded if not isinstance(r, BadRow)])
            finished[partition] = lot[-1].offset + 1
        return finished


def _decode(record: ConsumerRecord) -> tuple[Label, ConsumerRecord] | BadRow:
    try:
        label = Label.FromString(record.value or b"")
    except DecodeError:
        return BadRow(record, "DECODE", "expected a Label, found other bytes")
    if record.key is None or record.key != label.card_token.encode():
        return BadRow(record, "KEY_MISMATCH", "expected the card token as key, found another")
    return label, record
