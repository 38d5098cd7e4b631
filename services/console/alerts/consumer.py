"""The consumer of `alerts.raised.v1`: keyed by card token, at least once, any order will do.

Offsets are committed after the database commit, so a crash repeats records, and a repeated record
changes nothing. A record that is no alert is counted and passed over; the quarantine is told.
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

from fraudstream.broker.clients import broker_faults, subscribe
from fraudstream.broker.group_reading import poll_group
from fraudstream.broker.topic_watch import TopicWatch
from fraudstream.errors import BrokerUnavailable, LogReplaced, StreamStalled
from fraudstream.settings import KafkaSettings
from fraudstream.telemetry.metrics import CONSOLE_ALERTS, CONSOLE_LAG, DECISION_FORKS
from fraudstream.telemetry.spans import SPAN_ALERT, Telemetry
from fraudstream.telemetry.trace_context import TraceContext
from fraudstream.topics import ALERTS
from services.console.alerts.record import ReadAlert, read_alert
from services.console.alerts.store import AlertStore, StoreOutcome
from services.console.kafka_options import alert_consumer_options
from services.console.loop_health import LoopHealth

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
        health: Told when alerts were stored, or when none waits.
    """

    kafka: KafkaSettings
    store: AlertStore
    telemetry: Telemetry
    clock_us: Callable[[], int]
    health: LoopHealth

    def run(self, stop: Event) -> None:
        """Consume until `stop` is set.

        Raises:
            BrokerUnavailable: The broker is out of reach; run again later.
            DatabaseError: So is the database; nothing was committed, run again later.
        """
        topic = self.kafka.topic(ALERTS)
        with (
            broker_faults(self.kafka, f"reading {topic}"),
            closing(KafkaConsumer(**alert_consumer_options(self.kafka))) as consumer,
        ):
            subscribe(consumer, [topic])
            with closing(TopicWatch(self.kafka, consumer, topic)) as watch:
                while not stop.is_set():
                    self._step(consumer, watch)

    def _step(self, consumer: KafkaConsumer, watch: TopicWatch) -> None:
        polled = poll_group(consumer, _POLL_MS, max_records=_MAX_RECORDS)
        records = [record for batch in polled.values() for record in batch]
        lag = _lag(consumer)
        if lag is not None:
            CONSOLE_LAG.set(lag + len(records))
        if records:
            self.take(records)
            _commit(consumer)
        if records or lag == 0:
            self.health.work()
        if records:
            return
        try:
            watch.look()
        except (LogReplaced, StreamStalled) as exc:
            # A new consumer goes on.
            raise BrokerUnavailable(str(exc)) from exc

    def take(self, records: Iterable[ConsumerRecord]) -> None:
        """Store the alerts among some records, count and trace them."""
        started_us = self.clock_us()
        read = [read_alert(record) for record in records]
        alerts = [alert for alert in read if alert is not None]
        if len(alerts) < len(read):
            CONSOLE_ALERTS.labels(outcome="unreadable").inc(len(read) - len(alerts))
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


def _lag(consumer: KafkaConsumer) -> int | None:
    """Return how many records were not polled yet; None before the broker told of each partition.

    A consumer that has just joined knows nothing of what waits, and takes nothing for done.
    """
    tps = consumer.assignment()
    ends = {tp: consumer.highwater(tp) for tp in tps}
    if not tps or None in ends.values():
        return None
    return sum(max(0, int(end - consumer.position(tp))) for tp, end in ends.items())


def _commit(consumer: KafkaConsumer) -> None:
    """Commit what was taken; where the group moved on meanwhile, its new owner repeats it."""
    try:
        consumer.commit()
    except CommitFailedError:
        _LOG.info("the group rebalanced before the commit; the records will be read again")


def _report_outcome(alert: ReadAlert, outcome: StoreOutcome) -> None:
    CONSOLE_ALERTS.labels(outcome=outcome.value).inc()
    if outcome is StoreOutcome.CONFLICTING:
        DECISION_FORKS.inc()
    if outcome in {StoreOutcome.CONFLICTING, StoreOutcome.REFUSED}:
        _LOG.error("alert %s was %s; what is stored stays", alert.message.alert_id, outcome.value)
