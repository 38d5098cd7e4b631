"""Banks that send by librdkafka: every codec, transactions that end or abort, foreign headers."""

from __future__ import annotations

import random
import shutil
import subprocess
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from confluent_kafka import KafkaError, Message, Producer

from harness.traffic import RawRecord

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")

Position = tuple[str, int, int]
Headers = list[tuple[str, bytes | None]]

_TIMEOUT_S: Final = 60.0
# A header whose name is no UTF-8; librdkafka for Python cannot write one, kcat can.
_LATIN_1: Final = b"k\xfcndigung=1"
# What proxies, tracers and frameworks put beside a record: absent, binary, repeated, and long.
_FOREIGN: Final[tuple[tuple[str, bytes | None], ...]] = (
    ("spring_json_header_types", b'{"contentType":"java.lang.String"}'),
    ("X-B3-TraceId", b"\x00\xff\xfe binary"),
    ("kündigung", None),
    ("uber-trace-id", b"0:0:0:0"),
    ("uber-trace-id", b"0:0:0:1"),
    ("tracestate", b"x" * 900),
)


class LibrdkafkaSender:
    """Sends raw records by librdkafka, each batch by another codec.

    Args:
        bootstrap: Address of the broker.
        topic: Raw topic.
        rng: Draws the foreign headers.
        has_transactions: Whether the broker isolates transactions (the embedded one does not).
    """

    def __init__(
        self, bootstrap: str, topic: str, rng: random.Random, *, has_transactions: bool
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._rng = rng
        self._batches = 0
        common = {"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 5}
        self._producers = [Producer({**common, "compression.type": codec}) for codec in CODECS]
        self._transactional: Producer | None = None
        if has_transactions:
            self._transactional = Producer(
                {
                    **common,
                    "transactional.id": f"outbox-{uuid.uuid4().hex[:8]}",
                    "compression.type": "lz4",
                }
            )
            self._transactional.init_transactions(_TIMEOUT_S)

    def send(self, records: Sequence[RawRecord]) -> list[Position]:
        """Send records in one codec, or as a committed transaction; return where each lies."""
        self._batches += 1
        in_turn = self._batches % (len(CODECS) + 1)
        transactional = self._transactional
        if transactional is None or in_turn < len(CODECS):
            return _produce(
                self._producers[in_turn % len(CODECS)], self._topic, self._with_headers(records)
            )
        transactional.begin_transaction()
        positions = _produce(transactional, self._topic, self._with_headers(records))
        transactional.commit_transaction(_TIMEOUT_S)
        return positions

    def send_and_abort(self, records: Sequence[RawRecord]) -> int:
        """Send records in a transaction that is given up; return how many lie in the log so."""
        if self._transactional is None:
            return 0
        self._transactional.begin_transaction()
        _produce(self._transactional, self._topic, self._with_headers(records))
        self._transactional.abort_transaction(_TIMEOUT_S)
        return len(records)

    def send_unreadable(self, value: bytes) -> set[bytes]:
        """Send a value by kcat with a header name in Latin-1; return what was sent so, if any.

        kcat's librdkafka is older, and does not understand the embedded broker.
        """
        program = shutil.which("kcat")
        if program is None or self._transactional is None:
            return set()
        command: list[str | bytes] = [program, "-P", "-b", self._bootstrap, "-t", self._topic]
        subprocess.run([*command, "-H", _LATIN_1], input=value, check=True, timeout=_TIMEOUT_S)
        return {value}

    def _with_headers(self, records: Sequence[RawRecord]) -> list[tuple[RawRecord, Headers]]:
        return [
            (record, [*record.headers, *self._rng.sample(_FOREIGN, self._rng.randrange(3))])
            for record in records
        ]


def _produce(
    producer: Producer, topic: str, records: Sequence[tuple[RawRecord, Headers]]
) -> list[Position]:
    """Send records and wait for the broker's word on each."""
    positions: dict[int, Position] = {}
    for index, (record, headers) in enumerate(records):
        producer.produce(
            topic,
            value=record.value,
            key=record.key,
            headers=headers,  # type: ignore[arg-type]  # its stub wants a list of wider pairs
            timestamp=record.event_time_ms,
            on_delivery=_noting(positions, index),
        )
    left = producer.flush(_TIMEOUT_S)
    assert left == 0, f"{left} records were not acknowledged in {_TIMEOUT_S:g} s"
    return [positions[index] for index in range(len(records))]


def _noting(
    positions: dict[int, Position], index: int
) -> Callable[[KafkaError | None, Message], None]:
    def note(error: KafkaError | None, message: Message) -> None:
        assert error is None, f"record {index} was not acknowledged: {error}"
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        positions[index] = (topic, partition, offset)

    return note
