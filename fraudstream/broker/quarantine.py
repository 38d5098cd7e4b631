"""Quarantine: where a reader tells of a record behind ingest that it could not trust or read.

`report` counts the record, names it in the log and queues an entry for `quarantine.v1`: where the
record lies, who read it, why it was passed over, its size and its SHA-256. Nothing of its content
is copied, because it may hold card numbers; the record itself stays where it lies until retention.

A reader never waits for an entry and never ends because of one. A thread of its own connects and
writes, both only once there is something to tell. At most `LONGEST` entries wait; what does not
fit, or cannot be written, is counted and stands in the log only. Of one topic and reason at most
`MOST_TOLD` records a minute are told of; the others are counted. Delivery is at most once; of one
record each process tells once, as long as it remembers (`_REMEMBERED`).

As with the log and the counters, a process has one quarantine: its start names the reader
(`open_quarantine`). A command that only looks at topics opens none, and its reports are counted
and logged.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Sequence
from queue import Empty, Full, Queue
from threading import Lock, Thread
from typing import Final, NamedTuple, Protocol

from kafka import KafkaProducer

from fraudstream.broker.clients import cause_of, kafka_python_producer_options
from fraudstream.card_data.detector import mask
from fraudstream.reject_reasons import QuarantineReason
from fraudstream.runtime.allowance import MOST_TOLD, Allowance
from fraudstream.settings import KafkaSettings
from fraudstream.telemetry.metrics import QUARANTINE_LOST, QUARANTINED
from fraudstream.topics import QUARANTINE, base_name

LONGEST: Final = 10_000
_CHUNK: Final = 500
_SENT_S: Final = 60.0
_CLOSE_S: Final = 5.0
# What waits for a broker that is away waits in a bounded queue: it is told soon that it is lost.
_CONNECT_MS: Final = 10_000
_REMEMBERED: Final = 100_000

_LOG: Final = logging.getLogger(__name__)


class AnyRecord(Protocol):
    """A record as either client gives it."""

    @property
    def topic(self) -> str:
        """Topic that it was read from."""
        ...

    @property
    def partition(self) -> int:
        """Partition that it was read from."""
        ...

    @property
    def offset(self) -> int:
        """Place in the partition."""
        ...

    @property
    def value(self) -> bytes | None:
        """The serialised message."""
        ...


class Entry(NamedTuple):
    """One record of `quarantine.v1`."""

    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


def entry_of(record: AnyRecord, reason: QuarantineReason, message: str, reader: str) -> Entry:
    """Return what is told of a record.

    Args:
        record: What was passed over.
        reason: Why.
        message: What was expected and found, without any value of the record.
        reader: Who passed it over.
    """
    content = record.value or b""
    told = {
        "message": mask(message),
        "value_bytes": len(content),
        "value_sha256": hashlib.sha256(content).hexdigest(),
    }
    return Entry(
        f"{record.topic}/{record.partition}/{record.offset}".encode(),
        json.dumps(told, separators=(",", ":")).encode(),
        [
            ("reason", reason.encode()),
            ("topic", record.topic.encode()),
            ("partition", str(record.partition).encode()),
            ("offset", str(record.offset).encode()),
            ("reader", reader.encode()),
        ],
    )


class QuarantineWriter:
    """Writes entries in a thread of its own, which begins with the first of them.

    Args:
        kafka: Where Kafka is.
        reader: Name of this process's service and role.
    """

    def __init__(self, kafka: KafkaSettings, reader: str) -> None:
        self.reader = reader
        self._kafka = kafka
        self._waiting: Queue[Entry] = Queue(LONGEST)
        self._lock = Lock()
        self._thread: Thread | None = None
        self._told: OrderedDict[tuple[str, int, int], None] = OrderedDict()

    def is_new(self, record: AnyRecord) -> bool:
        """Take note of a record; return whether this writer was not told of it before."""
        coordinates = (record.topic, record.partition, record.offset)
        with self._lock:
            if coordinates in self._told:
                return False
            self._told[coordinates] = None
            if len(self._told) > _REMEMBERED:
                self._told.popitem(last=False)
            return True

    def put(self, entry: Entry) -> None:
        """Queue an entry, without waiting."""
        try:
            self._waiting.put_nowait(entry)
        except Full:
            QUARANTINE_LOST.labels("queue_full").inc()
            return
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="quarantine", daemon=True)
                self._thread.start()
                atexit.register(self.drain)

    def drain(self, timeout_s: float = _CLOSE_S) -> bool:
        """Wait until nothing is queued, so long at most; return whether that was so."""
        waiting = self._waiting
        with waiting.all_tasks_done:
            return waiting.all_tasks_done.wait_for(
                lambda: not waiting.unfinished_tasks, timeout=timeout_s
            )

    def _run(self) -> None:
        producer: KafkaProducer | None = None
        while True:
            chunk = self._next_chunk()
            try:
                producer = producer or self._connect()
                self._send(producer, chunk)
            except Exception as exc:  # noqa: BLE001  # the outermost loop: the reader must go on
                QUARANTINE_LOST.labels("not_sent").inc(len(chunk))
                _LOG.error("%d quarantine entries are lost: %s", len(chunk), cause_of(exc))
            for _ in chunk:
                self._waiting.task_done()

    def _connect(self) -> KafkaProducer:
        return KafkaProducer(
            **kafka_python_producer_options(self._kafka),
            bootstrap_timeout_ms=_CONNECT_MS,
            max_block_ms=_CONNECT_MS,
        )

    def _next_chunk(self) -> list[Entry]:
        """Return what waits, after the first has come."""
        chunk = [self._waiting.get()]
        while len(chunk) < _CHUNK:
            try:
                chunk.append(self._waiting.get_nowait())
            except Empty:
                break
        return chunk

    def _send(self, producer: KafkaProducer, chunk: Sequence[Entry]) -> None:
        topic = self._kafka.topic(QUARANTINE)
        sent = [
            producer.send(topic, key=one.key, value=one.value, headers=list(one.headers))
            for one in chunk
        ]
        for future in sent:
            future.get(timeout=_SENT_S)


class _Process:
    """Where this process tells."""

    writer: QuarantineWriter | None = None
    allowance = Allowance(MOST_TOLD)


def open_quarantine(kafka: KafkaSettings, reader: str) -> QuarantineWriter:
    """Have this process's reports written, under the name of its service and role."""
    _Process.writer, _Process.allowance = QuarantineWriter(kafka, reader), Allowance(MOST_TOLD)
    return _Process.writer


def report(record: AnyRecord, reason: QuarantineReason, message: str) -> None:
    """Count a record that was passed over; of not too many a minute tell the log and the topic.

    Never waits and never raises; from any thread. A record that is read again, as a rebuild does,
    is told of once.

    Args:
        record: As either Kafka client, or `LogReader`, gives it.
        reason: Why it was passed over.
        message: What was expected and found, without any value of the record.
    """
    writer = _Process.writer
    if writer is not None and not writer.is_new(record):
        return
    QUARANTINED.labels(base_name(record.topic), reason.value).inc()
    untold = _Process.allowance.take((record.topic, reason))
    if untold is None:
        QUARANTINE_LOST.labels("too_many").inc()
        return
    _LOG.error(
        "%s, partition %d, offset %d is passed over, %s: %s%s",
        record.topic,
        record.partition,
        record.offset,
        reason.value,
        message,
        f"; so were {untold} before it" if untold else "",
    )
    if writer is not None:
        writer.put(entry_of(record, reason, message, writer.reader))
