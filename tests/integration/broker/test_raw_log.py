"""Ingest in front of a log that is broken, cut or made again: it goes on, and says what is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition

from fraudstream.runtime.clock import epoch_ms
from fraudstream.topics import ACCEPTED, DLQ, RAW
from fraudstream.transaction.json_form import decode_json
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from harness.processes import wait_until
from harness.servers import ApacheKafka, ValkeyServer
from tests.conftest import ServiceLauncher, create_topics, environment_of_test
from tests.integration.ingest.test_ingest import TIMEOUT_S, Raw, ingest_keys
from tests.material.bad_samples import good_sample
from tests.material.kafka_bytes import (
    at_offset,
    batch_of,
    junk_batches,
    record_body,
    write_batch,
    write_junk,
)


def send(environment: Mapping[str, str], number: int) -> list[str]:
    """Send good records to one partition by librdkafka; return their ids."""
    producer = Producer({"bootstrap.servers": environment["FRAUD_KAFKA_BOOTSTRAP"]})
    ids = []
    for _ in range(number):
        value = good_sample(epoch_ms())
        ids.append(decode_json(value).transaction_id)
        producer.produce(
            environment["FRAUD_KAFKA_TOPIC_PREFIX"] + RAW.name,
            value=value,
            partition=1,
        )
    assert producer.flush(TIMEOUT_S) == 0
    return ids


def accepted_ids(raw: Raw, number: int) -> list[str]:
    """Return the ids of accepted records, once there are so many."""
    return [
        AcceptedTransaction.FromString(record.value).transaction.transaction_id
        for record in raw.read(ACCEPTED, number)
    ]


@pytest.fixture
def ingest_env(any_line_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Variables of ingest, with new keys and topics."""
    environment = any_line_env | ingest_keys(tmp_path)
    create_topics(environment, tmp_path)
    return environment


@pytest.fixture
def raw(ingest_env: dict[str, str]) -> Iterator[Raw]:
    """The topics of this test."""
    raw = Raw(ingest_env)
    yield raw
    raw.close()


def write_raw(environment: Mapping[str, str], bodies: list[bytes], codec: str = "none") -> None:
    """Write one batch of record bodies to the raw topic, as they stand."""
    topic = environment["FRAUD_KAFKA_TOPIC_PREFIX"] + RAW.name
    data = at_offset(0, batch_of(bodies, codec, epoch_ms()))
    write_batch(environment["FRAUD_KAFKA_BOOTSTRAP"], topic, 1, data)


def test_header_whose_name_is_no_text_costs_its_record_alone(
    ingest_env: dict[str, str], raw: Raw, service: ServiceLauncher
) -> None:
    """It is a dead letter with what was sent; the records around it in the batch are accepted."""
    values = [good_sample(epoch_ms()) for _ in range(3)]
    ids = [decode_json(value).transaction_id for value in values]
    foreign = record_body(1, values[1], headers=[(b"k\xfcndigung", b"1")])
    write_raw(ingest_env, [record_body(0, values[0]), foreign, record_body(2, values[2])])
    service("services.ingest", [], ingest_env)

    assert accepted_ids(raw, 2) == [ids[0], ids[2]]
    [letter] = raw.read(DLQ, 1)
    assert dict(letter.headers)["reason"] == b"HEADERS"
    assert dict(letter.headers)["offset"] == b"1"


def test_junk_batches_cost_themselves_alone(
    line_env: dict[str, str], tmp_path: Path, service: ServiceLauncher
) -> None:
    """Each is a dead letter with its bytes, and the records around them are accepted."""
    environment = line_env | ingest_keys(tmp_path)
    create_topics(environment, tmp_path)
    ids = send(environment, 2)
    topic = environment["FRAUD_KAFKA_TOPIC_PREFIX"] + RAW.name
    write_junk(environment["FRAUD_KAFKA_BOOTSTRAP"], topic, 1)
    ids += send(environment, 2)
    service("services.ingest", [], environment)

    with closing(Raw(environment)) as topics:
        assert sorted(accepted_ids(topics, 4)) == sorted(ids)
        # A batch without records and one of a transaction's end hold nothing to bury.
        letters = topics.read(DLQ, len(junk_batches()) - 2)
    assert {dict(letter.headers)["reason"] for letter in letters} == {b"CORRUPT"}


@pytest.fixture
def on_kafka(kafka_broker: ApacheKafka, valkey: ValkeyServer, tmp_path: Path) -> dict[str, str]:
    """The same on Apache Kafka, which alone isolates transactions."""
    environment = environment_of_test(kafka_broker, valkey) | ingest_keys(tmp_path)
    create_topics(environment, tmp_path)
    return environment


@pytest.fixture
def kafka_raw(on_kafka: dict[str, str]) -> Iterator[Raw]:
    """Its topics."""
    raw = Raw(on_kafka)
    yield raw
    raw.close()


def lag_of(environment: Mapping[str, str]) -> int:
    """Return the offsets of the raw topic that ingest's group has not committed."""
    prefix = environment["FRAUD_KAFKA_TOPIC_PREFIX"]
    client = KafkaConsumer(
        bootstrap_servers=environment["FRAUD_KAFKA_BOOTSTRAP"],
        group_id=f"{prefix}fraudstream-ingest",
        enable_auto_commit=False,
    )
    with closing(client):
        places = [TopicPartition(prefix + RAW.name, number) for number in range(6)]
        ends = client.end_offsets(places)
        return sum(ends[place] - (client.committed(place) or 0) for place in places)


@pytest.mark.kafka
def test_offsets_that_retention_took_are_said(
    on_kafka: dict[str, str], kafka_raw: Raw, service: ServiceLauncher
) -> None:
    """Ingest goes on at the first record that is left, and says how many it never saw."""
    first = send(on_kafka, 2)
    running = service("services.ingest", [], on_kafka)
    assert accepted_ids(kafka_raw, 2) == first
    assert wait_until(lambda: lag_of(on_kafka) == 0, TIMEOUT_S)
    assert running.stop() == 0
    send(on_kafka, 7)
    place = TopicPartition(on_kafka["FRAUD_KAFKA_TOPIC_PREFIX"] + RAW.name, 1)
    with closing(KafkaAdminClient(bootstrap_servers=on_kafka["FRAUD_KAFKA_BOOTSTRAP"])) as admin:
        admin.delete_records({place: 9})
    last = send(on_kafka, 1)

    again = service("services.ingest", [], on_kafka)

    assert accepted_ids(kafka_raw, 3) == first + last
    assert "7 offsets were deleted before they were read" in again.log_text()


@pytest.mark.kafka
def test_raw_topic_made_again_under_ingest_ends_it_for_a_new_start(
    on_kafka: dict[str, str], kafka_raw: Raw, service: ServiceLauncher, tmp_path: Path
) -> None:
    """No worker waits in silence for a topic that is gone: it says so, and its successor reads."""
    first = send(on_kafka, 2)
    running = service("services.ingest", [], on_kafka)
    assert accepted_ids(kafka_raw, 2) == first
    name = on_kafka["FRAUD_KAFKA_TOPIC_PREFIX"] + RAW.name
    with closing(KafkaAdminClient(bootstrap_servers=on_kafka["FRAUD_KAFKA_BOOTSTRAP"])) as admin:
        admin.delete_topics([name])
        assert wait_until(lambda: name not in admin.list_topics(), TIMEOUT_S)
    create_topics(on_kafka, tmp_path)
    again = send(on_kafka, 5)

    assert running.wait_end(TIMEOUT_S)
    assert running.exit_code == os.EX_TEMPFAIL
    assert f"topic {name} was made again" in running.log_text()
    service("services.ingest", [], on_kafka)
    assert accepted_ids(kafka_raw, 7)[2:] == again
