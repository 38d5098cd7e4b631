"""The consumer of `alerts.raised.v1`: keyed by card token, at least once, any order will do.

Offsets are committed after the database commit, so a crash repeats records, and a repeated record
changes nothing. A record that is no alert is logged by its coordinates, counted and passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Final

from django.db import close_old_connections
from kafka import KafkaConsumer
from kafka.errors import CommitFailedError

from fraudstream.bus import subscribe
from fraudstream.settings import KafkaSettings
from fraudstream.telemetry import (
    CONSOLE_ALERTS,
    DECISION_FORKS,
    SPAN_ALERT,
    Telemetry,
    TraceContext,
)
from fraudstream.topics import ALERTS
from services.console.alert_record import Coordinates, ReadAlert, UnreadableRecord, read_alert
from services.console.alert_store import AlertStore, StoreOutcome
from services.console.kafka_options import alert_consumer_options

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord

_LOG: Final = logging.getLogger(__name__)
_POLL_MS: Final = 500
_MAX_RECORDS: Final = 200


@dataclass(frozen=True, slots=True)
class AlertConsumer:
    """Moves alerts from Kafka into the store.

    Attributes:
        kafka: Where Kafka is.
        store: Where alerts go.
        telemetry: Where spans go.
        clock_us: Epoch microseconds.
    """

    kafka: KafkaSettings
    store: AlertStore
    telemetry: Telemetry
    clock_us: Callable[[], int]

    def run(self, stop: Event) -> None:
        """Consume until `stop` is set.

        Raises:
            BrokerUnavailable, KafkaError: The broker is out of reach; run again later.
            DatabaseError: So is the database; nothing was committed, run again later.
        """
        consumer = KafkaConsumer(**alert_consumer_options(self.kafka))
        with closing(consumer):
            subscribe(consumer, [self.kafka.topic(ALERTS)])
            while not stop.is_set():
                polled = consumer.poll(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
                records = [record for batch in polled.values() for record in batch]
                if records:
                    self.take(records)
                    _commit(consumer)

    def take(self, records: Iterable[ConsumerRecord]) -> None:
        """Store the alerts among some records, count and trace them."""
        started_us = self.clock_us()
        read = [
            read_alert(
                record.value,
                record.headers,
                Coordinates(record.topic, record.partition, record.offset),
            )
            for record in records
        ]
        for unreadable in read:
            if isinstance(unreadable, UnreadableRecord):
                _report_unreadable(unreadable)
        alerts = [alert for alert in read if isinstance(alert, ReadAlert)]
        close_old_connections()
        outcomes = self.store.write(alerts) if alerts else []
        ended_us = self.clock_us()
        for alert, outcome in zip(alerts, outcomes, strict=True):
            _report_outcome(alert, outcome)
            if outcome is StoreOutcome.STORED:
                self._trace(alert, started_us, ended_us)

    def _trace(self, alert: ReadAlert, started_us: int, ended_us: int) -> None:
        """Write the last span of the transaction's trace."""
        parent = TraceContext.parse(alert.traceparent)
        if parent is None:
            return
        self.telemetry.record_span(
            SPAN_ALERT,
            parent.child(),
            parent,
            started_us,
            ended_us,
            {"fraud.alert_id": alert.message.alert_id},
        )


def _commit(consumer: KafkaConsumer) -> None:
    """Commit what was taken; where the group moved on meanwhile, its new owner repeats it."""
    try:
        consumer.commit()
    except CommitFailedError:
        _LOG.info("the group rebalanced before the commit; the records will be read again")


def _report_unreadable(record: UnreadableRecord) -> None:
    CONSOLE_ALERTS.labels(outcome="unreadable").inc()
    where = record.coordinates
    _LOG.error(
        "a record of %s, partition %d, offset %d is no alert (%s) and was passed over",
        where.topic,
        where.partition,
        where.offset,
        record.reason,
    )


def _report_outcome(alert: ReadAlert, outcome: StoreOutcome) -> None:
    CONSOLE_ALERTS.labels(outcome=outcome.value).inc()
    if outcome is StoreOutcome.CONFLICTING:
        DECISION_FORKS.inc()
    if outcome in {StoreOutcome.CONFLICTING, StoreOutcome.REFUSED}:
        _LOG.error("alert %s was %s; what is stored stays", alert.message.alert_id, outcome.value)
