"""Kafka: how each client library is set up, and the producer that sends whole batches.

A batch costs a few microseconds a record where one call a record costs fifty (`aiokafka`).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from kafka import ConsumerRebalanceListener, KafkaConsumer

from fraudstream.errors import BrokerUnavailable
from fraudstream.settings import KafkaSettings

# Under the broker's default of 1 MiB for one record batch, with room for its header.
BATCH_BYTES: Final = 900_000
REQUEST_TIMEOUT_MS: Final = 30_000
# How long a producer may go on trying: a shard that is opened after a loss waits this out.
DELIVERY_TIMEOUT_S: Final = 60.0
# The embedded broker answers a long poll only at its end.
EMBEDDED_FETCH_WAIT_MS: Final = 50
_FETCH_WAIT_MS: Final = 500
_TOPICS_TIMEOUT_S: Final = 30.0
_TOPICS_PAUSE_S: Final = 0.1

Options = dict[str, Any]


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
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
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
    """
    return aiokafka_options(settings) | {
        "group_id": group,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
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
            raise BrokerUnavailable(f"the broker does not name {', '.join(names)}")
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


class BatchProducer:
    """Sends records in whole batches, in the order given for each partition."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Keep the settings; nothing is connected before `start`."""
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect."""
        self._producer = AIOKafkaProducer(**aiokafka_producer_options(self._settings))
        await self._producer.start()

    async def stop(self) -> None:
        """Send what waits, then disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        try:
            return len(await self._connected().partitions_for(topic))
        except KafkaError as exc:
            msg = f"no answer about topic {topic}: {type(exc).__name__}"
            raise BrokerUnavailable(msg) from exc

    async def send(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Send records and wait until all are acknowledged.

        Raises:
            BrokerUnavailable: One of them was not acknowledged; others may have been.
        """
        try:
            waits = []
            for partition, lot in _by_partition(records).items():
                waits += [
                    await self._connected().send_batch(batch, topic, partition=partition)
                    for batch in self._batches(lot)
                ]
            async with asyncio.timeout(DELIVERY_TIMEOUT_S):
                await asyncio.gather(*waits)
        except (KafkaError, TimeoutError) as exc:
            msg = f"{topic}: not acknowledged: {type(exc).__name__}"
            raise BrokerUnavailable(msg) from exc

    def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            msg = "the producer is not started"
            raise BrokerUnavailable(msg)
        return self._producer

    def _batches(self, records: Sequence[OutRecord]) -> list[BatchBuilder]:
        """Pack the records of one partition into as few batches as their size allows."""
        batches: list[BatchBuilder] = [self._connected().create_batch()]
        for record in records:
            if not _append(batches[-1], record):
                batches.append(self._connected().create_batch())
                if not _append(batches[-1], record):
                    msg = f"a record of {len(record.value)} bytes is larger than a batch may be"
                    raise BrokerUnavailable(msg)
        return batches


def _append(batch: BatchBuilder, record: OutRecord) -> bool:
    """Add a record to a batch; False where the batch is full."""
    added = batch.append(
        key=record.key,
        value=record.value,
        timestamp=record.timestamp_ms,
        headers=list(record.headers),
    )
    return added is not None


def _by_partition(records: Sequence[OutRecord]) -> dict[int, list[OutRecord]]:
    lots: dict[int, list[OutRecord]] = {}
    for record in records:
        lots.setdefault(record.partition, []).append(record)
    return lots
