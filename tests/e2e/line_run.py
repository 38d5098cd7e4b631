"""One run of the line under test: records in with a ledger, and the evidence out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import redis
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from fraudstream.broker.clients import kafka_python_options, kafka_python_producer_options
from fraudstream.broker.log_reader import LogReader, read_topic
from fraudstream.broker.wire.record_macs import MAC
from fraudstream.features.stored_values import CARD_VALUE
from fraudstream.topics import ACCEPTED, ALERTS, DECISIONS, DLQ, RAW, Topic
from fraudstream.transaction.formats import JSON
from fraudstream.transaction.json_form import decode_json
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.transaction_pb2 import Transaction
from harness.line import Line
from harness.processes import wait_until
from harness.settings import kafka_settings_in, redis_settings_in
from harness.traffic import Disorder, RawRecord, Sent, raw_records
from tests.e2e.audit import DeadLetter, Entry, Evidence, Expected, Source
from training.simulator.simulate import SimulationSettings, live_traffic

Ends = dict[tuple[str, int], int]
Send = Callable[[Sequence[RawRecord]], Sequence[Source]]

# Enough for full polls, few enough that a crash in the middle leaves work on both sides.
_AHEAD_AT_MOST: Final = 1_500
_STEP: Final = 100
_EXPECTED: Final = {
    Sent.FRESH: Expected.DECIDED,
    Sent.DUPLICATE: Expected.DUPLICATE,
    Sent.CONFLICT: Expected.CONFLICT,
    Sent.BAD: Expected.DEAD_LETTER,
}


def records_of(number: int, simulation: SimulationSettings, disorder: Disorder) -> list[RawRecord]:
    """Return the first raw records of a simulation, the same ones each time."""
    return list(islice(raw_records(live_traffic(simulation), disorder, simulation.seed), number))


class LineRun:
    """The line on some servers, and what goes in and comes out.

    Args:
        line: Its services; keys and topics are made, none need be running.
        servers: Variables that name broker, store and prefixes.
    """

    def __init__(self, line: Line, servers: Mapping[str, str]) -> None:
        self.line = line
        self.kafka = kafka_settings_in(servers)
        self._redis = redis_settings_in(servers)
        self.ledger: list[Entry] = []

    def feed(
        self,
        records: Sequence[RawRecord],
        timeout_s: float,
        tick: Callable[[], None],
        send: Send | None = None,
    ) -> None:
        """Send records on their own clock, never far ahead of the decisions; wait for the last.

        Args:
            records: What to send, in order.
            timeout_s: Bound on all of it.
            tick: Called all the time, for what the test does meanwhile.
            send: Sends some records and returns where each lies; None for kafka-python.
        """
        if send is not None:
            self._feed(records, timeout_s, tick, send)
            return
        producer = KafkaProducer(**kafka_python_producer_options(self.kafka))
        self._feed(records, timeout_s, tick, lambda some: self._send(producer, some))
        producer.close(timeout=10)

    def _feed(
        self,
        records: Sequence[RawRecord],
        timeout_s: float,
        tick: Callable[[], None],
        send: Send,
    ) -> None:
        waiting = iter(records)
        undecided: set[tuple[str, str]] = set()
        with LogReader(self.kafka, [DECISIONS], from_end=True) as reader:

            def is_done() -> bool:
                tick()
                if len(undecided) < _AHEAD_AT_MOST:
                    sent = _entries(step := list(islice(waiting, _STEP)), send(step))
                    undecided.update(e.key for e in sent if e.expected is Expected.DECIDED)
                    self.ledger += sent
                for record in reader.poll(0.02):
                    decision = Decision.FromString(record.value)
                    undecided.discard((decision.bank_id, decision.transaction_id))
                return len(self.ledger) == len(records) and not undecided

            if not wait_until(is_done, timeout_s):
                logs = "\n".join(
                    f"--- {s.name} (exit {s.exit_code})\n" + s.log_text()[-1_500:]
                    for s in self.line.services
                )
                raise AssertionError(f"{len(undecided)} undecided after {timeout_s} s\n{logs}")

    def evidence(self) -> Evidence:
        """Wait until offsets are committed and outboxes empty, and read all that is left."""
        wait_until(lambda: not self.unpublished(), 30.0)
        ends = self._ends()
        wait_until(lambda: not any(self._uncommitted(ends).values()), 30.0, poll_s=0.5)
        return Evidence(
            decisions=[Decision.FromString(r.value) for r in read_topic(self.kafka, DECISIONS)],
            alerts=[Alert.FromString(r.value) for r in read_topic(self.kafka, ALERTS)],
            dead_letters=self.dead_letters(),
            unpublished=self.unpublished(),
            states=self.card_states(),
            uncommitted=self._uncommitted(ends),
        )

    def dead_letters(self) -> list[DeadLetter]:
        """Return every dead letter."""
        letters = []
        for record in read_topic(self.kafka, DLQ):
            header = {n: content.decode() for n, content in record.headers if n != MAC}
            source = (header["topic"], int(header["partition"]), int(header["offset"]))
            stage = header["stage"].partition("-")[0]
            letters.append(DeadLetter(stage, header["reason"], source))
        return letters

    def card_states(self) -> dict[str, bytes]:
        """Return the packed state of every card, by its key without the prefix.

        The vector that was last decided lies beside it: what terminals had shown by then depends
        on when a row was read, so it is not part of what must be equal.
        """
        prefix = f"{self._redis.key_prefix}:"
        with self._client() as client:
            keys = [key.decode() for key in client.scan_iter(f"{prefix}*:card:*", count=5_000)]
            values: Any = client.mget(keys) if keys else []
        return {
            key.removeprefix(prefix): np.frombuffer(value, CARD_VALUE)["state"].tobytes()
            for key, value in zip(keys, values, strict=True)
        }

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self._redis.url.get_secret_value(), socket_timeout=10.0)

    def unpublished(self) -> int:
        with self._client() as client:
            boxes = client.scan_iter(f"{self._redis.key_prefix}:*:outbox", count=5_000)
            return sum(int(client.zcard(box)) for box in boxes)

    def _uncommitted(self, ends: Ends) -> dict[str, int]:
        """Return how many records each group has not committed."""
        consumers = {"ingest": RAW, "features-card": ACCEPTED}
        return {group: self._lag(group, topic, ends) for group, topic in consumers.items()}

    def _lag(self, group: str, topic: Topic, ends: Ends) -> int:
        consumer = KafkaConsumer(
            **kafka_python_options(self.kafka),
            group_id=self.kafka.group(group),
            enable_auto_commit=False,
        )
        try:
            return sum(
                end - (consumer.committed(TopicPartition(name, partition)) or 0)
                for (name, partition), end in ends.items()
                if name == self.kafka.topic(topic)
            )
        finally:
            consumer.close()

    def _ends(self) -> Ends:
        """Return the end of every partition that has records; nobody writes any more."""
        records = [*read_topic(self.kafka, RAW), *read_topic(self.kafka, ACCEPTED)]
        ends: Ends = {}
        for record in records:
            place = record.topic, record.partition
            ends[place] = max(ends.get(place, 0), record.offset + 1)
        return ends

    def _send(self, producer: KafkaProducer, records: Sequence[RawRecord]) -> list[Source]:
        """Send some records, each on its own clock; return where each lies."""
        topic = self.kafka.topic(RAW)
        sent = [
            producer.send(
                topic,
                value=record.value,
                key=record.key,
                headers=record.headers,
                timestamp_ms=record.event_time_ms,
            )
            for record in records
        ]
        places = [future.get(timeout=30) for future in sent]
        return [(place.topic, place.partition, place.offset) for place in places]


def _entries(records: Sequence[RawRecord], sources: Sequence[Source]) -> list[Entry]:
    """Return the lines of the ledger for records that were sent."""
    return [
        Entry(
            (record.bank_id, record.transaction_id),
            _amount_of(record),
            _EXPECTED[record.sent],
            source,
        )
        for record, source in zip(records, sources, strict=True)
    ]


def _amount_of(record: RawRecord) -> int:
    """Return the amount in a record; 0 for one that is meant to be unreadable."""
    if record.sent is Sent.BAD:
        return 0
    if record.content_type == JSON:
        return decode_json(record.value).amount_minor
    return Transaction.FromString(record.value).amount_minor


def prepared_line(folder: Path, servers: Mapping[str, str], **options: Any) -> LineRun:
    """Return a line with keys and topics made and no service running."""
    line = Line(folder, servers, **options)
    line.prepare()
    return LineRun(line, servers)
