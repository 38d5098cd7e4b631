"""`labels follow`: what banks write to the raw topic of labels, by librdkafka."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from fraudstream.broker.log_reader import read_topic
from fraudstream.dead_letters.letter import write_seal_keys
from fraudstream.keys.box_keys import add_box_keys, load_public_key
from fraudstream.keys.secret_files import Purpose
from fraudstream.sealed_pan import seal_pan
from fraudstream.topics import DLQ, LABELS, LABELS_RAW
from fraudstream.v1.label_pb2 import BankLabel, Disposition, Label
from harness.processes import wait_until
from harness.settings import kafka_settings_in
from tests.conftest import ServiceLauncher
from tests.integration.ingest.test_label_import import Bank, archive, bank
from tests.worlds.archive_records import transaction

__all__ = ["bank"]  # a fixture

ANSWER_S = 40.0
PAN = "4" + 14 * "0" + "2"
GOOD: dict[str, Any] = {"bank_id": "bank-north", "transaction_id": "t1", "disposition": "genuine"}


def write(bank: Bank, *records: tuple[bytes, str]) -> None:
    """Write records of a content type to the raw topic, as a bank does."""
    settings = kafka_settings_in(bank.environment)
    producer = Producer({"bootstrap.servers": settings.bootstrap, "compression.type": "lz4"})
    for value, content_type in records:
        headers: dict[str, str | bytes | None] = {"content-type": content_type}
        producer.produce(settings.topic(LABELS_RAW), value, key=b"bank", headers=headers)
    assert producer.flush(30) == 0


def as_json(**more: object) -> tuple[bytes, str]:
    """Return a good label as JSON, with some fields changed."""
    return json.dumps(GOOD | more).encode(), "application/json"


def letters(bank: Bank) -> list[str]:
    """Return the reasons of the dead letters, sorted."""
    records = read_topic(kafka_settings_in(bank.environment), DLQ)
    return sorted(dict(record.headers)["reason"].decode() for record in records)


@pytest.fixture
def environment(bank: Bank, tmp_path: Path) -> Mapping[str, str]:
    """Variables of the role."""
    write_seal_keys(tmp_path / "private.key", tmp_path / "public.key")
    return {
        **bank.environment,
        "FRAUD_INGEST_SEAL_PUBLIC_KEY_FILE": str(tmp_path / "public.key"),
    }


def labelled(bank: Bank) -> list[Label]:
    """Return the labels that were written."""
    records = read_topic(kafka_settings_in(bank.environment), LABELS)
    return [Label.FromString(record.value) for record in records]


def test_labels_of_both_forms_are_settled_and_bad_ones_buried(
    bank: Bank, environment: Mapping[str, str], service: ServiceLauncher
) -> None:
    """A fault costs its own record."""
    message = BankLabel(
        bank_id="bank-north",
        transaction_id="t2",
        card_token=transaction(2).card_token,
        disposition=Disposition.DISPOSITION_CONFIRMED_FRAUD,
    )
    write(
        bank,
        as_json(),
        (message.SerializeToString(), "application/x-protobuf"),
        (b"no label", "application/json"),
        (b"a,b", "text/csv"),
        as_json(transaction_id="t2"),
        as_json(disposition="fraud"),
    )

    service("services.ingest", ["labels", "follow"], environment)

    assert wait_until(lambda: len(labelled(bank)) == 2 and len(letters(bank)) == 4, ANSWER_S)
    assert {(one.transaction_id, one.disposition) for one in labelled(bank)} == {
        ("t1", Disposition.DISPOSITION_GENUINE),
        ("t2", Disposition.DISPOSITION_CONFIRMED_FRAUD),
    }
    assert letters(bank) == ["CONTENT_TYPE", "DECODE", "DISPOSITION", "LABEL_AMBIGUOUS"]


def test_sealed_number_tells_the_card_and_a_clear_one_is_buried_where_it_must_be_sealed(
    bank: Bank, environment: Mapping[str, str], service: ServiceLauncher, tmp_path: Path
) -> None:
    """In JSON and Protobuf; two cards have the id, so nothing but the number tells which."""
    key_id = add_box_keys(tmp_path / "pan", Purpose.PAN_KEY)
    public = bytes(load_public_key(tmp_path / "pan" / f"{key_id}.pub"))
    sealed = seal_pan(public, "bank-north", "t2", PAN)
    message = BankLabel(
        bank_id="bank-north",
        transaction_id="t2",
        pan_sealed=sealed.pan_sealed,
        pan_key_id=sealed.pan_key_id,
        disposition=Disposition.DISPOSITION_CONFIRMED_FRAUD,
    )
    write(
        bank,
        as_json(transaction_id="t2", **sealed.json_fields()),
        (message.SerializeToString(), "application/x-protobuf"),
        as_json(transaction_id="t2", pan=PAN),
        as_json(**sealed.json_fields()),
    )
    told = {"FRAUD_INGEST_PAN_PRIVATE_KEYS": str(tmp_path / "pan")}

    service(
        "services.ingest",
        ["labels", "follow"],
        {**environment, **told, "FRAUD_INGEST_REQUIRES_SEALED_PAN": "true"},
    )

    assert wait_until(lambda: len(labelled(bank)) == 2 and len(letters(bank)) == 2, ANSWER_S)
    assert {one.card_token for one in labelled(bank)} == {
        bank.tokeniser.token_of("bank-north", PAN)
    }
    assert letters(bank) == ["PAN_SEAL", "PAN_UNSEALED"]


def test_label_waits_for_its_transaction_and_survives_a_restart(
    bank: Bank, environment: Mapping[str, str], service: ServiceLauncher, tmp_path: Path
) -> None:
    """The archive is behind the line: no label is lost by that, and none keeps another back."""
    write(bank, as_json(transaction_id="t7"), as_json())
    follower = service("services.ingest", ["labels", "follow"], environment)
    assert wait_until(lambda: len(labelled(bank)) == 1, ANSWER_S)
    follower.stop()
    archive(tmp_path / "archive", [transaction(7)], days_after=2)

    follower.start()

    assert wait_until(lambda: "t7" in {one.transaction_id for one in labelled(bank)}, ANSWER_S)
    assert letters(bank) == []


def test_label_without_a_transaction_is_buried_when_its_time_is_over(
    bank: Bank, environment: Mapping[str, str], service: ServiceLauncher
) -> None:
    """With the reason that says so; `dlq` keeps it."""
    write(bank, as_json(transaction_id="t9"))

    service(
        "services.ingest",
        ["labels", "follow"],
        {**environment, "FRAUD_INGEST_LABEL_ORPHAN_AFTER_S": "0"},
    )

    assert wait_until(lambda: letters(bank) == ["LABEL_ORPHAN"], ANSWER_S)
    assert labelled(bank) == []
