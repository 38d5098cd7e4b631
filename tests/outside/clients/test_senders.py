"""Ingest behind producers that nobody here wrote, audited by a raw consumer of librdkafka."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer

from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ACCEPTED, DLQ, RAW
from fraudstream.transaction.json_form import decode_json
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from harness.processes import wait_until
from harness.servers import ApacheKafka, ValkeyServer
from tests.conftest import ServiceLauncher, create_topics, environment_of_test
from tests.integration.ingest.test_ingest import ingest_keys
from tests.material.bad_samples import good_sample
from tests.outside.clients.raw_log import RawLog, headers_of
from tests.outside.clients.senders import CODECS

_TIMEOUT_S: Final = 60.0
_RECORDS: Final = 3

Header = tuple[str | bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class Case:
    """One way to send.

    Attributes:
        name: What is special about it.
        options: Of librdkafka.
        headers: Of each record.
        needs_kafka: The embedded broker has no such producers.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[Header, ...] = ()
    needs_kafka: bool = False


CASES: Final = (
    *(Case(f"codec {codec}", {"compression.type": codec}) for codec in CODECS),
    Case("null header value", headers=(("empty", None),)),
    Case("binary header value", headers=(("trace", b"\x00\xff\xfe"),)),
    Case("one header twice", headers=(("twice", b"1"), ("twice", b"2"))),
    Case("idempotent", {"enable.idempotence": True}, needs_kafka=True),
)


class Bank:
    """Sends to the raw topic of one line, and knows what it sent."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.bootstrap = environment["FRAUD_KAFKA_BOOTSTRAP"]
        self.prefix = environment["FRAUD_KAFKA_TOPIC_PREFIX"]
        self.raw = self.prefix + RAW.name
        self.log = RawLog(self.bootstrap)

    def producer(self, options: Mapping[str, Any]) -> Producer:
        """Return a producer that sends batches."""
        return Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 50, **options})

    def send(
        self, producer: Producer, partition: int, headers: tuple[Header, ...] = ()
    ) -> set[str]:
        """Send good records in one batch; return their ids."""
        ids = set()
        for _ in range(_RECORDS):
            value = good_sample(epoch_ms())
            ids.add(decode_json(value).transaction_id)
            producer.produce(
                self.raw,
                value=value,
                partition=partition,
                headers=list(headers),  # type: ignore[arg-type]  # its stub leaves out bytes
            )
        assert producer.flush(_TIMEOUT_S) == 0
        return ids

    def accepted(self) -> list[str]:
        """Return the ids on the accepted topic."""
        found = self.log.read(self.prefix + ACCEPTED.name)
        return [
            AcceptedTransaction.FromString(record.value() or b"").transaction.transaction_id
            for record in found
        ]

    def reasons(self) -> list[str]:
        """Return the reasons of all dead letters."""
        found = self.log.read(self.prefix + DLQ.name)
        return [dict(headers_of(record))["reason"].decode() for record in found]

    def lag(self) -> int:
        """Return what ingest has not committed, markers included."""
        return self.log.lag(f"{self.prefix}fraudstream-ingest", self.raw)


def bank_of(environment: Mapping[str, str], folder: Path) -> Bank:
    """Return a bank with keys and topics of its own."""
    with_keys = {**environment, **ingest_keys(folder)}
    create_topics(with_keys, folder)
    return Bank(with_keys)


@pytest.fixture
def bank(any_line_env: Mapping[str, str], tmp_path: Path) -> Bank:
    """A bank on `any_broker`."""
    return bank_of(any_line_env, tmp_path)


@pytest.fixture
def kafka_bank(kafka_broker: ApacheKafka, valkey: ValkeyServer, tmp_path: Path) -> Bank:
    """A bank on Apache Kafka, which alone isolates transactions."""
    return bank_of(environment_of_test(kafka_broker, valkey), tmp_path)


@pytest.mark.both_brokers
def test_every_way_to_send_ends_as_it_should(bank: Bank, service: ServiceLauncher) -> None:
    """Each record is accepted once, and none is a dead letter."""
    is_embedded = bank.environment["FRAUD_KAFKA_IS_EMBEDDED"] == "true"
    accepted: set[str] = set()
    for number, case in enumerate(CASES):
        if case.needs_kafka and is_embedded:
            continue
        accepted |= bank.send(bank.producer(case.options), number % 6, case.headers)
    service("services.ingest", [], bank.environment)

    assert wait_until(lambda: len(bank.accepted()) >= len(accepted), _TIMEOUT_S, poll_s=0.5)
    assert sorted(bank.accepted()) == sorted(accepted)
    assert bank.reasons() == []


@pytest.mark.kafka
def test_transactions_are_all_or_nothing(kafka_bank: Bank, service: ServiceLauncher) -> None:
    """Aborted: never. Open: not yet, and nothing behind it. Committed: all, and no lag is left."""
    outbox = kafka_bank.producer({"transactional.id": "outbox", "compression.type": "lz4"})
    outbox.init_transactions(_TIMEOUT_S)
    outbox.begin_transaction()
    kafka_bank.send(outbox, 0)
    outbox.abort_transaction(_TIMEOUT_S)
    outbox.begin_transaction()
    committed = kafka_bank.send(outbox, 0)
    outbox.commit_transaction(_TIMEOUT_S)
    outbox.begin_transaction()
    kafka_bank.send(outbox, 1)
    service("services.ingest", [], kafka_bank.environment)

    assert wait_until(lambda: set(kafka_bank.accepted()) == committed, _TIMEOUT_S, poll_s=0.5)
    outbox.abort_transaction(_TIMEOUT_S)
    last = kafka_bank.send(kafka_bank.producer({}), 1)
    whole = committed | last
    assert wait_until(lambda: set(kafka_bank.accepted()) == whole, _TIMEOUT_S, poll_s=0.5)
    assert wait_until(lambda: kafka_bank.lag() == 0, _TIMEOUT_S, poll_s=0.5)


@pytest.mark.kafka
@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not on the path")
def test_kcat_sends_what_ingest_takes(
    kafka_bank: Bank, service: ServiceLauncher, tmp_path: Path
) -> None:
    """A shell's bytes in a header name cost that record; the compressed one beside it counts."""
    body = tmp_path / "body.json"
    ids = []
    for option in (["-z", "lz4"], ["-H", b"k\xfcndigung=1"]):
        value = good_sample(epoch_ms())
        ids.append(decode_json(value).transaction_id)
        body.write_bytes(value)
        to = ["kcat", "-P", "-b", kafka_bank.bootstrap, "-t", kafka_bank.raw, "-p", "2"]
        subprocess.run([*to, *option, str(body)], check=True, timeout=_TIMEOUT_S)
    service("services.ingest", [], kafka_bank.environment)

    assert wait_until(lambda: kafka_bank.accepted() == ids[:1], _TIMEOUT_S, poll_s=0.5)
    assert wait_until(lambda: kafka_bank.reasons() == ["HEADERS"], _TIMEOUT_S, poll_s=0.5)
