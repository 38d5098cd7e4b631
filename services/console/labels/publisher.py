"""The publisher of the label outbox to `labels.settled.v1`: keyed by card token, at least once.

A label is marked as sent after the broker acknowledged it. A crash in between sends it again under
the same `label_id`; a broker that is away for hours only makes the outbox longer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import Final

from django.db import close_old_connections
from kafka import KafkaProducer
from kafka.errors import KafkaError

from fraudstream.broker.clients import SignedSender, broker_faults
from fraudstream.runtime.crashpoint import crash_point
from fraudstream.settings import KafkaSettings
from fraudstream.topics import LABELS
from services.console.kafka_options import label_producer_options
from services.console.loop_health import LoopHealth
from services.console.models import OutboxLabel

_LOG: Final = logging.getLogger(__name__)
_BATCH: Final = 100
_ACK_TIMEOUT_S: Final = 20
# A settled alert wakes the publisher at once; the poll is for what another process left behind.
_POLL_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class LabelPublisher:
    """Moves labels from the outbox to Kafka, oldest first.

    Attributes:
        kafka: Where Kafka is.
        wake: Set by whoever put a label into the outbox.
        clock_ms: Epoch milliseconds.
        health: Told when what waited was sent.
    """

    kafka: KafkaSettings
    wake: Event
    clock_ms: Callable[[], int]
    health: LoopHealth

    def run(self, stop: Event) -> None:
        """Publish until `stop` is set (set `wake` too, to be heard at once).

        Raises:
            BrokerUnavailable: The broker is out of reach; run again later.
            DatabaseError: So is the database; run again later.
        """
        with (
            broker_faults(self.kafka, f"sending to {self.kafka.topic(LABELS)}"),
            closing(KafkaProducer(**label_producer_options(self.kafka))) as producer,
        ):
            sender = SignedSender(producer, self.kafka, "console")
            while not stop.is_set():
                self.wake.clear()
                close_old_connections()
                published = self.publish_batch(sender)
                self.health.work()
                if not published:
                    self.wake.wait(_POLL_S)

    def publish_batch(self, sender: SignedSender) -> int:
        """Send the oldest unsent labels and mark what was acknowledged; return how many."""
        rows = list(OutboxLabel.objects.filter(sent_at_ms=0).order_by("id")[:_BATCH])
        topic = self.kafka.topic(LABELS)
        futures = [sender.send(topic, row.card_token.encode(), bytes(row.payload)) for row in rows]
        acknowledged: list[int] = []
        try:
            for row, future in zip(rows, futures, strict=True):
                future.get(timeout=_ACK_TIMEOUT_S)
                acknowledged.append(row.id)
        except KafkaError:
            _LOG.warning("%d labels wait in the outbox", len(rows) - len(acknowledged))
            raise
        finally:
            if acknowledged:
                crash_point("console.after_label_sent")
                OutboxLabel.objects.filter(id__in=acknowledged).update(sent_at_ms=self.clock_ms())
        return len(acknowledged)
