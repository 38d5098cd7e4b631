"""Sends corrected records to the topic of their original, and marks their letters as replayed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Self

from kafka import KafkaProducer

from fraudstream.broker.clients import (
    OutRecord,
    SignedSender,
    broker_faults,
    kafka_python_producer_options,
)
from fraudstream.broker.wire.record_keys import hold
from fraudstream.dead_letters.letter import ATTEMPTS, FIRST_SEEN
from fraudstream.privileges import principal
from fraudstream.settings import KafkaSettings
from fraudstream.topics import DLQ
from fraudstream.transaction.formats import CONTENT_TYPE, JSON
from services.ingest.dead_letters.reader import (
    OPERATOR,
    REPLAY_OF,
    REPLAYED,
    Letter,
    Position,
)

_SEND_TIMEOUT_S: Final = 30


@dataclass(frozen=True, slots=True)
class Corrected:
    """A dead letter and the record that replaces its original.

    Attributes:
        letter: What it corrects; its first sight and attempts travel on.
        key: Key of the record.
        value: The record, JSON.
        timestamp_ms: Its time, epoch milliseconds; None for now.
    """

    letter: Letter
    key: bytes | None
    value: bytes
    timestamp_ms: int | None


class Resender:
    """Sends corrected records, one after the other; each is acknowledged before the next."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        keys = hold(kafka)
        if keys is not None:  # a letter that is sent and not marked would be sent again
            keys.check(principal(OPERATOR))
        with broker_faults(kafka):
            self._producer = KafkaProducer(**kafka_python_producer_options(kafka))
        self._marks = SignedSender(self._producer, kafka, OPERATOR)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._producer.close(timeout=_SEND_TIMEOUT_S)

    def send(self, corrected: Corrected) -> Position:
        """Send a record to its original's topic, mark its letter; return the record's position.

        Another raw topic may not carry its bank.
        """
        letter = corrected.letter
        with broker_faults(self._kafka, "sending a corrected record"):
            sent = self._producer.send(
                letter.source,
                key=corrected.key,
                value=corrected.value,
                headers=[
                    (CONTENT_TYPE, JSON),
                    (FIRST_SEEN, letter.headers["first_seen"]),
                    (ATTEMPTS, letter.headers["attempts"]),
                    (REPLAY_OF, letter.name.encode()),
                ],
                timestamp_ms=corrected.timestamp_ms,
            ).get(timeout=_SEND_TIMEOUT_S)
            self._mark(letter, f"{sent.partition}:{sent.offset}")
        return sent.partition, sent.offset

    def _mark(self, letter: Letter, position: str) -> None:
        content = {
            "message": f"letter {letter.name} was replayed as raw record {position}",
            "append_time_ms": letter.content()["append_time_ms"],
        }
        mark = OutRecord(
            key=letter.key,
            value=json.dumps(content, separators=(",", ":")).encode(),
            partition=letter.position[0],
            headers=[*letter.headers.items(), (REPLAYED, letter.name.encode())],
        )
        self._marks.send_to(self._kafka.topic(DLQ), mark).get(timeout=_SEND_TIMEOUT_S)
