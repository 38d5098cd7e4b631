"""Kafka: how each client library is set up, and the producer that sends whole batches.

A batch costs a few microseconds a record where one call a record costs fifty (`aiokafka`).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka import errors as aiokafka_errors
from aiokafka.producer.message_accumulator import BatchBuilder
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_python_errors

from fraudstream.broker import client_patches
from fraudstream.broker.wire import record_keys
from fraudstream.broker.wire.record_macs import MacKey, Origin
from fraudstream.errors import BrokerUnavailable
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings
from fraudstream.topics import base_name, partition_of

# Under the broker's default of 1 MiB for one record batch, with room for its header.
BATCH_BYTES: Final = 900_000
# At most what Kafka's format needs besides the contents: seven numbers of a record, two of a
# header; and the header of a batch with the MAC in its last record.
_RECORD_BYTES: Final = 40
_HEADER_BYTES: Final = 10
_SPARE_BYTES: Final = 256
REQUEST_TIMEOUT_MS: Final = 30_000
# How long a producer may go on trying: a shard that is opened after a loss waits this out.
DELIVERY_TIMEOUT_S: Final = 60.0
# The embedded broker answers a long poll only at its end.
EMBEDDED_FETCH_WAIT_MS: Final = 50
_FETCH_WAIT_MS: Final = 500
# What a bank's transaction did not commit is no record, on any topic.
ISOLATION: Final = "read_committed"
_TOPICS_TIMEOUT_S: Final = 30.0
_TOPICS_PAUSE_S: Final = 0.1

Options = dict[str, Any]

# Whoever makes a client asks this module for its options.
client_patches.install()


# What either client raises; each has its own tree.
KAFKA_ERRORS: Final = (kafka_python_errors.KafkaError, aiokafka_errors.KafkaError)
# Of these the broker said nothing at all; of all others it said why.
_AWAY: Final = (
    OSError,
    kafka_python_errors.KafkaConnectionError,
    kafka_python_errors.KafkaTimeoutError,
    kafka_python_errors.NodeNotReadyError,
    aiokafka_errors.KafkaConnectionError,
    aiokafka_errors.KafkaTimeoutError,
    aiokafka_errors.NodeNotReadyError,
    aiokafka_errors.RequestTimedOutError,
)


def broker_fault(settings: KafkaSettings, exc: Exception, task: str = "") -> BrokerUnavailable:
    """Return what a client library raised as an error of ours: where, what, and why.

    Args:
        settings: Name the address that was tried.
        exc: What was raised; only what says so is told as a broker that is away.
        task: What was being done, such as `topic t is read`.

    >>> str(broker_fault(KafkaSettings(), TimeoutError(), "topic t is read"))
    'Kafka at 127.0.0.1:9092 does not answer (topic t is read): TimeoutError'
    >>> str(broker_fault(KafkaSettings(), ValueError("expected 1, found 2")))
    'Kafka at 127.0.0.1:9092: ValueError: expected 1, found 2'
    """
    silence = " does not answer" if isinstance(exc, _AWAY) else ""
    doing = f" ({task})" if task else ""
    return BrokerUnavailable(f"Kafka at {settings.bootstrap}{silence}{doing}: {cause_of(exc)}")


def cause_of(exc: Exception) -> str:
    """Return what a client library raised in words: its name once, and its text.

    >>> cause_of(TimeoutError()), cause_of(ValueError("expected 1"))
    ('TimeoutError', 'ValueError: expected 1')
    """
    name, text = type(exc).__name__, str(exc)
    return text if text.startswith(name) else ": ".join(filter(None, (name, text)))


@contextmanager
def broker_faults(settings: KafkaSettings, task: str = "") -> Iterator[None]:
    """Raise what either client library raises inside as `BrokerUnavailable`."""
    try:
        yield
    except KAFKA_ERRORS as exc:
        raise broker_fault(settings, exc, task) from exc


def tls_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """Return the TLS context of the settings, None without TLS.

    >>> tls_context(KafkaSettings()) is None
    True
    """
    if not settings.security_protocol.endswith("SSL"):
        return None
    context = ssl.create_default_context(cafile=settings.ssl_cafile or None)
    if settings.ssl_certfile:
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile or None)
    return context


def _common_options(settings: KafkaSettings) -> Options:
    options: Options = {
        "bootstrap_servers": settings.bootstrap.split(","),
        "security_protocol": settings.security_protocol,
        "ssl_context": tls_context(settings),
    }
    if settings.security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.password(),
        }
    return options


def aiokafka_options(settings: KafkaSettings) -> Options:
    """Return what every aiokafka client is given.

    >>> aiokafka_options(KafkaSettings())["bootstrap_servers"]
    ['127.0.0.1:9092']
    """
    return _common_options(settings)


def fetch_wait_ms(settings: KafkaSettings) -> int:
    """Return how long a fetch of a reader that is in no hurry may wait for its first record.

    >>> fetch_wait_ms(KafkaSettings(is_embedded=True))
    50
    """
    return EMBEDDED_FETCH_WAIT_MS if settings.is_embedded else _FETCH_WAIT_MS


def kafka_python_options(settings: KafkaSettings) -> Options:
    """Return what every kafka-python client is given.

    >>> kafka_python_options(KafkaSettings())["security_protocol"]
    'PLAINTEXT'
    """
    return _common_options(settings)


def kafka_python_consumer_options(settings: KafkaSettings) -> Options:
    """Return what a kafka-python consumer is given: it commits nothing by itself.

    It waits for a transaction that is open, and never sees a record of one that was aborted.

    >>> kafka_python_consumer_options(KafkaSettings())["isolation_level"]
    'read_committed'

    Raises:
        InvalidSettings: The keys of what it reads are not as they must be.
    """
    record_keys.hold(settings)
    return kafka_python_options(settings) | {
        "enable_auto_commit": False,
        "isolation_level": ISOLATION,
        "fetch_max_wait_ms": fetch_wait_ms(settings),
    }


def aiokafka_producer_options(settings: KafkaSettings) -> Options:
    """Return what an aiokafka producer is given: all replicas acknowledge, in order.

    >>> aiokafka_producer_options(KafkaSettings())["acks"]
    'all'
    """
    return aiokafka_options(settings) | {
        "acks": 1 if settings.is_embedded else "all",
        "enable_idempotence": not settings.is_embedded,
        "max_batch_size": BATCH_BYTES,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
    }


def aiokafka_consumer_options(settings: KafkaSettings, group: str) -> Options:
    """Return what an aiokafka consumer of a group is given, which commits what it has finished.

    >>> aiokafka_consumer_options(KafkaSettings(), "g")["enable_auto_commit"]
    False

    Raises:
        InvalidSettings: The keys of what it reads are not as they must be.
    """
    record_keys.hold(settings)
    return aiokafka_options(settings) | {
        "group_id": group,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": ISOLATION,
        "fetch_max_wait_ms": fetch_wait_ms(settings),
    }


def kafka_python_producer_options(settings: KafkaSettings) -> Options:
    """Return what a kafka-python producer is given: all replicas acknowledge, in order.

    >>> kafka_python_producer_options(KafkaSettings(is_embedded=True))["acks"]
    1
    """
    options = kafka_python_options(settings) | {"linger_ms": 2}
    if settings.is_embedded:
        return options | {"acks": 1, "enable_idempotence": False, "retries": 5}
    return options | {"acks": "all", "enable_idempotence": True}


def subscribe(
    consumer: KafkaConsumer,
    names: Collection[str],
    listener: ConsumerRebalanceListener | None = None,
) -> None:
    """Subscribe a consumer of a group, and wait until it knows the topics' partitions.

    kafka-python 3.0.12 joins its group at the first poll, whether it knows them or not. If they
    come to be known meanwhile it joins again, and where that poll's time ends first, the outcome
    of the second join is dropped: the consumer has no partition and is expelled without a word
    (4 of 25 starts on topics just made; with this wait 0 of 25, and one join instead of two).

    Raises:
        BrokerUnavailable: The broker does not name the topics in time.
    """
    consumer.subscribe(list(names), listener=listener)
    gives_up_at = time.monotonic() + _TOPICS_TIMEOUT_S
    while not set(names) <= consumer.topics():
        if time.monotonic() > gives_up_at:
            raise BrokerUnavailable(
                f"the broker does not name {', '.join(names)} within {_TOPICS_TIMEOUT_S:g} s"
            )
        time.sleep(_TOPICS_PAUSE_S)


class OutRecord(NamedTuple):
    """One record to send.

    Attributes:
        key: Its key.
        value: Its content.
        partition: Where it goes; the caller knows the shard.
        headers: Names and contents.
        timestamp_ms: Its time, epoch milliseconds; None for now.
    """

    key: bytes
    value: bytes
    partition: int
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


class RecordSigner:
    """Signs what one writer sends.

    Args:
        settings: Name the folder of keys; nothing is signed without one.
        writer: The room that writes, as in `fraudstream.topics`; empty for topics that nobody
            signs.

    Raises:
        InvalidSettings: A key file is missing or invalid, or the broker is elsewhere and no folder
            is set.
    """

    def __init__(self, settings: KafkaSettings, writer: str) -> None:
        self._keys = record_keys.hold(settings)
        self._writer = writer
        self._key_of: dict[str, MacKey | None] = {}

    def signed(self, topic: str, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        """Return records of one partition as one run, of which the last carries the MAC.

        Raises:
            InvalidSettings: The writer has no key for the topic.
        """
        if topic not in self._key_of:
            self._key_of[topic] = self._find(topic)
        key = self._key_of[topic]
        if key is None or not records:
            return records
        last = records[-1]
        origin = Origin(base_name(topic), last.partition)
        mac = key.header(origin, epoch_ms(), records)
        return [*records[:-1], last._replace(headers=(*last.headers, mac))]

    def _find(self, topic: str) -> MacKey | None:
        if self._keys is None:
            return None
        return self._keys.signing_key(self._writer, base_name(topic))


class SignedSender:
    """Sends single records by kafka-python, each with a MAC of its own.

    Args:
        producer: Connected.
        settings: Name the folder of keys.
        writer: The room that writes.
    """

    def __init__(self, producer: KafkaProducer, settings: KafkaSettings, writer: str) -> None:
        self._producer = producer
        self._signer = RecordSigner(settings, writer)

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Any:
        """Send a record to the partition of its key; return the future of its coordinates."""
        partition = partition_of(key, len(self._producer.partitions_for(topic)))
        return self.send_to(topic, OutRecord(key, value, partition, headers, timestamp_ms))

    def send_to(self, topic: str, record: OutRecord) -> Any:
        """Send a record to the partition that it names; return the future of its coordinates."""
        (signed,) = self._signer.signed(topic, [record])
        return self._producer.send(
            topic,
            key=signed.key,
            value=signed.value,
            headers=list(signed.headers),
            partition=signed.partition,
            timestamp_ms=signed.timestamp_ms,
        )


class BatchProducer:
    """Sends records in whole batches, in the order given for each partition.

    Args:
        settings: Where Kafka is; nothing is connected before `start`.
        writer: The room that writes, whose MACs readers expect; empty for topics without MACs.
    """

    def __init__(self, settings: KafkaSettings, writer: str = "") -> None:
        self._settings = settings
        self._signer = RecordSigner(settings, writer)
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: No broker answers, or it refuses.
        """
        self._producer = AIOKafkaProducer(**aiokafka_producer_options(self._settings))
        with broker_faults(self._settings):
            await self._producer.start()

    async def stop(self) -> None:
        """Send what waits, then disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        with broker_faults(self._settings, f"partitions of topic {topic}"):
            return len(await self._connected().partitions_for(topic))

    async def send(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Send records and wait until all are acknowledged.

        Raises:
            BrokerUnavailable: One of them was not acknowledged; others may have been.
        """
        try:
            waits = []
            for partition, chunk in _by_partition(records).items():
                waits += [
                    await self._connected().send_batch(batch, topic, partition=partition)
                    for batch in self._batches(topic, chunk)
                ]
            async with asyncio.timeout(DELIVERY_TIMEOUT_S):
                await asyncio.gather(*waits)
        except (*KAFKA_ERRORS, TimeoutError) as exc:
            raise broker_fault(self._settings, exc, f"records for topic {topic}") from exc

    def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            msg = "the producer is not started"
            raise BrokerUnavailable(msg)
        return self._producer

    def _batches(self, topic: str, records: Sequence[OutRecord]) -> list[BatchBuilder]:
        """Pack the records of one partition into as few batches as their size allows."""
        return [self._batch(self._signer.signed(topic, chunk)) for chunk in _chunks(records)]

    def _batch(self, records: Sequence[OutRecord]) -> BatchBuilder:
        batch = self._connected().create_batch()
        for record in records:
            added = batch.append(
                key=record.key,
                value=record.value,
                timestamp=record.timestamp_ms,
                headers=list(record.headers),
            )
            if added is None:
                msg = f"a record of {len(record.value)} bytes is larger than a batch may be"
                raise BrokerUnavailable(msg)
        return batch


def _chunks(records: Sequence[OutRecord]) -> Iterator[Sequence[OutRecord]]:
    """Yield records that fit into a batch, with room for the MAC of its last."""
    begin, left = 0, BATCH_BYTES - _SPARE_BYTES
    for at, record in enumerate(records):
        size = len(record.key) + len(record.value) + _RECORD_BYTES
        size += sum(len(name) + len(content) + _HEADER_BYTES for name, content in record.headers)
        if size > left and at > begin:
            yield records[begin:at]
            begin, left = at, BATCH_BYTES - _SPARE_BYTES
        left -= size
    if begin < len(records):
        yield records[begin:]


def _by_partition(records: Sequence[OutRecord]) -> dict[int, list[OutRecord]]:
    chunks: dict[int, list[OutRecord]] = {}
    for record in records:
        chunks.setdefault(record.partition, []).append(record)
    return chunks
