"""What senders write in their own way, sent by librdkafka: taken, or refused by its own name."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer
from google.protobuf.json_format import MessageToJson

from fraudstream.broker.log_reader import LogRecord, read_topic
from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.runtime.clock import epoch_ms
from fraudstream.settings import KafkaSettings
from fraudstream.topics import ACCEPTED, DLQ, RAW
from fraudstream.transaction.card_token import write_token_keys
from fraudstream.transaction.json_form import decode_json
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from harness.processes import wait_until
from harness.settings import kafka_settings_in
from tests.conftest import ServiceLauncher, create_topics
from tests.material.bad_samples import good_sample
from training.simulator.messages import pan_of

pytestmark = pytest.mark.slow

NOW_MS: Final = epoch_ms()
_TIMEOUT_S: Final = 60.0
_HOUR_MS: Final = 3_600_000
_SCHEMA_ID: Final = struct.pack(">bI", 0, 7)  # Confluent's wire format


@dataclass(frozen=True)
class Habit:
    """One way of writing a good transaction.

    Attributes:
        write: Turns the JSON of a good transaction into the value.
        reason: Why it is refused; nothing where it is taken.
        headers: That go with it.
        age_ms: How far its record timestamp lies behind.
    """

    write: Callable[[bytes], bytes] = bytes
    reason: str = ""
    headers: tuple[tuple[str, bytes | None], ...] = ()
    age_ms: int = 0


def _changed(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda good: json.dumps(json.loads(good) | changes).encode()


def _protobuf(good: bytes) -> bytes:
    return decode_json(good).SerializeToString()


HABITS: Final = {
    "protobuf's own JSON": Habit(lambda good: MessageToJson(decode_json(good)).encode()),
    "whole numbers with a point": Habit(_changed(amount_minor=2350.0, utc_offset_minutes=60.0)),
    "an exponent": Habit(lambda good: good.replace(b"2350", b"2.35e3")),
    "fixed-length fields": Habit(_changed(merchant_id="SHOP01         ", terminal_id="T1      ")),
    "an address in capitals": Habit(_changed(ip="2001:DB8:0:0:0:0:0:1")),
    "a header in capitals": Habit(_protobuf, "", (("Content-Type", b"application/x-protobuf"),)),
    "the registered type": Habit(_protobuf, "", (("content-type", b"application/protobuf"),)),
    "a header without content": Habit(headers=(("content-type", None),)),
    "fields of its own": Habit(_changed(utcOffset=60, loyalty={"tier": "gold"})),
    "a purchase in Kosovo": Habit(_changed(country="XK")),
    "a stamp of three years ago": Habit(age_ms=3 * 365 * 24 * _HOUR_MS),
    "a stamp of a year ahead": Habit(age_ms=-365 * 24 * _HOUR_MS),
    "a stamp two hours behind": Habit(age_ms=2 * _HOUR_MS),
    "a registry's JSON": Habit(lambda good: _SCHEMA_ID + good, "REGISTRY_FRAMED"),
    "a registry's protobuf": Habit(
        lambda good: _SCHEMA_ID + b"\0" + _protobuf(good), "REGISTRY_FRAMED"
    ),
    "Kafka Connect": Habit(lambda good: b'{"schema":{},"payload":%s}' % good, "CONNECT_ENVELOPE"),
    "seconds": Habit(_changed(event_time_ms=NOW_MS // 1_000), "TIME_INVALID"),
    "a number filled up with zeros": Habit(_changed(pan=pan_of(3).zfill(19)), "PAN_INVALID"),
    "track 2 as customer": Habit(_changed(customer_id=f";{pan_of(3)}=3012101"), "SAD_PRESENT"),
    "the United Kingdom": Habit(_changed(country="UK"), "COUNTRY"),
}


def test_habits_of_senders_are_taken_or_named(
    any_line_env: Mapping[str, str], tmp_path: Path, service: ServiceLauncher
) -> None:
    """No record takes another one's place, and each refusal has its own reason."""
    create_topics(any_line_env, tmp_path)
    kafka = kafka_settings_in(any_line_env)
    _send(kafka)
    ingest = service("services.ingest", [], dict(any_line_env) | _keys(tmp_path))

    def are_all_through() -> bool:
        return len(read_topic(kafka, ACCEPTED)) + len(read_topic(kafka, DLQ)) >= len(HABITS)

    assert wait_until(are_all_through, _TIMEOUT_S)
    taken = {_habit_of(record): record for record in read_topic(kafka, ACCEPTED)}
    refused = {_offset_habit(record): _reason(record) for record in read_topic(kafka, DLQ)}
    assert refused == {name: habit.reason for name, habit in HABITS.items() if habit.reason}
    assert taken.keys() == HABITS.keys() - refused.keys()
    for record in taken.values():
        row = AcceptedTransaction.FromString(record.value)
        assert abs(row.raw_append_time_ms - row.ingest_started_us // 1_000) < 10 * 60_000
    padded = AcceptedTransaction.FromString(taken["fixed-length fields"].value).transaction
    assert (padded.merchant_id, padded.terminal_id) == ("SHOP01", "T1")
    assert "['loyalty', 'utcOffset']" in ingest.log_text()


def _send(kafka: KafkaSettings) -> None:
    """Send each habit in turn to one partition, so that its offset is its place in the table."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "acks": "all"})
    for place, habit in enumerate(HABITS.values()):
        good = json.dumps(json.loads(good_sample(NOW_MS)) | {"transaction_id": f"h-{place}"})
        producer.produce(
            kafka.topic(RAW),
            value=habit.write(good.encode()),
            partition=0,
            headers=list(habit.headers),
            timestamp=NOW_MS - habit.age_ms,
        )
    assert producer.flush(_TIMEOUT_S) == 0


def _keys(folder: Path) -> dict[str, str]:
    write_token_keys(folder / "token.keys")
    write_seal_keys(folder / "seal.private", folder / "seal.public")
    return {
        "FRAUD_INGEST_TOKEN_KEYS_FILE": str(folder / "token.keys"),
        "FRAUD_INGEST_SEAL_PUBLIC_KEY_FILE": str(folder / "seal.public"),
    }


def _habit_of(record: LogRecord) -> str:
    transaction = AcceptedTransaction.FromString(record.value).transaction
    return list(HABITS)[int(transaction.transaction_id.removeprefix("h-"))]


def _offset_habit(record: LogRecord) -> str:
    return list(HABITS)[int(dict(record.headers)["offset"])]


def _reason(record: LogRecord) -> str:
    return dict(record.headers)["reason"].decode()
