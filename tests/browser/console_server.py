"""The console as its own process before a real broker, and what a test does to it from outside."""

from __future__ import annotations

import sqlite3
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from fraudstream.topics import ALERTS, LABELS
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.label_pb2 import Label
from harness.processes import free_port, wait_until
from harness.service_process import ServiceProcess

PARTITIONS = 2
ARRIVAL_S = 45.0
RawRecord = tuple[bytes, bytes, list[tuple[str, bytes]]]


class ConsoleServer:
    """A console with its own database, topics and group.

    Args:
        bootstrap: The broker's address.
        environment: Variables that name the broker and a topic prefix.
        folder: Where database and log go.
    """

    def __init__(self, bootstrap: str, environment: Mapping[str, str], folder: Path) -> None:
        self.bootstrap = bootstrap
        self.port = free_port()
        self.metrics_port = free_port()
        self.database = folder / "console.sqlite3"
        self._prefix = environment.get("FRAUD_KAFKA_TOPIC_PREFIX", "")
        self.environment = {
            **environment,
            "FRAUD_CONSOLE_PORT": str(self.port),
            "FRAUD_CONSOLE_METRICS_PORT": str(self.metrics_port),
            "FRAUD_CONSOLE_DATABASE_URL": f"sqlite:///{self.database}",
            "FRAUD_CONSOLE_DEMO_LOGINS": "true",
        }
        self.process = ServiceProcess("services.console", [], self.environment, folder)

    @property
    def address(self) -> str:
        """Where browsers find it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def alerts_topic(self) -> str:
        """Its alerts topic."""
        return f"{self._prefix}{ALERTS.name}"

    @property
    def labels_topic(self) -> str:
        """Its labels topic."""
        return f"{self._prefix}{LABELS.name}"

    def create_topics(self) -> None:
        """Make both topics."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        topics = (self.alerts_topic, self.labels_topic)
        admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in topics])
        admin.close()

    def publish(self, records: Iterable[RawRecord]) -> None:
        """Send records to the alerts topic."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks=1, enable_idempotence=False)
        for key, value, headers in records:
            producer.send(self.alerts_topic, key=key, value=value, headers=headers)
        producer.flush(timeout=10)
        producer.close()

    def raise_alerts(self, alerts: Iterable[Alert]) -> None:
        """Send alerts and wait until the console has stored them."""
        raised = list(alerts)
        self.publish(
            (alert.decision.card_token.encode(), alert.SerializeToString(), []) for alert in raised
        )
        ids = [alert.alert_id for alert in raised]
        assert wait_until(lambda: self.stored(ids) == len(ids), ARRIVAL_S), self.process.log_text()

    def stored(self, alert_ids: list[str]) -> int:
        """Return how many of these alerts are in the database."""
        marks = ",".join("?" * len(alert_ids))
        query = f"SELECT count(*) FROM alert WHERE alert_id IN ({marks})"  # noqa: S608  # marks only
        return int(self.query(query, alert_ids)[0][0])

    def query(self, sql: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """Read the console's database beside it."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(sql, tuple(values)).fetchall()
        finally:
            connection.close()

    def metric(self, sample: str) -> float:
        """Return the value of a sample by its name and labels, as the metrics page shows it."""
        address = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{sample} "))

    def labels_of(self, alert: Alert) -> list[Label]:
        """Return every label of an alert's transaction that is on the topic."""
        wanted = alert.decision.transaction_id
        return [label for label in self.labels() if label.transaction_id == wanted]

    def labels(self) -> list[Label]:
        """Return all that is on the labels topic now."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, fetch_max_wait_ms=50)
        places = [TopicPartition(self.labels_topic, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        labels: list[Label] = []

        def has_all() -> bool:
            for records in consumer.poll(timeout_ms=200).values():
                labels.extend(Label.FromString(record.value) for record in records)
            return all(consumer.position(place) >= ends[place] for place in places)

        assert wait_until(has_all, ARRIVAL_S)
        consumer.close()
        return labels
