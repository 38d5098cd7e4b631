"""The label role: settled labels on to their entities. Keeps no state: the entity shard does."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

from aiokafka import ConsumerRecord

from fraudstream.broker.batch_agent import Finished, Records
from fraudstream.broker.messages import message_of
from fraudstream.broker.quarantine import report
from fraudstream.names import canonical_address, canonical_name
from fraudstream.reject_reasons import QuarantineReason
from fraudstream.v1.label_pb2 import Label
from services.features.rows.entity_row_sender import EntityRowSender

_NAMES: Final = ("customer_id", "merchant_id", "terminal_id", "device_id")


class LabelRole:
    """Handles polls of the labels topic. A label that comes twice is known to its entity shard."""

    def __init__(self, sender: EntityRowSender) -> None:
        """Keep the sender."""
        self._sender = sender
        self._finished: dict[int, int] = {}

    def assigned(self, partitions: set[int]) -> None:
        """Take note: of another assignment nothing is finished yet."""
        self._finished = dict.fromkeys(partitions, 0)
        logging.getLogger(__name__).info("labels of partitions %s", sorted(partitions))

    async def handle(self, records: Records) -> Finished:
        """Send every label on; done only when all are acknowledged."""
        for partition, chunk in records.items():
            labels = [(label, record) for record in chunk if (label := decode_label(record))]
            await self._sender.send_labels(labels)
            self._finished[partition] = chunk[-1].offset + 1
        return dict(self._finished)


def decode_label(record: ConsumerRecord) -> Label | None:
    """Return the label of a record; None for what no service of ours can have written."""
    label = message_of(Label, record)
    if label is not None and record.key != label.card_token.encode():
        report(record, QuarantineReason.KEY, "expected the card token as key")
        return None
    if label is not None:
        _spell_entities(label)
    return label


def _spell_entities(label: Label) -> None:
    """Give a label's ids and address the one spelling that transactions have."""
    for name in _NAMES:
        setattr(label, name, canonical_name(name, getattr(label, name)))
    # What is no address is no transaction's either, and none to tell.
    with suppress(ValueError):
        label.ip = canonical_address(label.ip)
