"""`labels import`: a bank's file becomes labels of archived transactions."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.archive.batches import LogRows, accepted_batch
from fraudstream.archive.files import file_path
from fraudstream.broker.log_reader import LogRecord, read_topic
from fraudstream.keys.box_keys import add_box_keys, load_public_key
from fraudstream.keys.secret_files import Purpose
from fraudstream.sealed_pan import seal_pan
from fraudstream.topics import LABELS
from fraudstream.transaction.card_token import Tokeniser, TokenKeys, write_token_keys
from fraudstream.v1.label_pb2 import Label
from fraudstream.v1.transaction_pb2 import Transaction
from harness.service_process import ServiceProcess
from harness.settings import kafka_settings_in
from tests.worlds.archive_records import transaction

ENDED_S = 60.0
DAY = timedelta(days=1)


def archive(root: Path, transactions: list[Transaction], days_after: int = 0) -> None:
    """Write transactions as the archive keeps them, in one file of the day they arrived on."""
    arrived_ms = transactions[0].event_time_ms + days_after * 86_400_000
    rows = LogRows(0, list(range(len(transactions))), [arrived_ms] * len(transactions))
    day = datetime.fromtimestamp(arrived_ms / 1_000, UTC).date()
    path = file_path(root / "accepted", "0a", day, (days_after, 0, len(transactions) - 1))
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_batches([accepted_batch(transactions, rows)]), path)


@dataclass(frozen=True)
class Bank:
    """A bank whose transactions are archived."""

    environment: Mapping[str, str]
    folder: Path
    tokeniser: Tokeniser

    def run(self, name: str, *arguments: str) -> tuple[int | None, str]:
        """Import a file; return the exit code and what was said."""
        command = ["labels", "import", str(self.folder / name), *arguments]
        process = ServiceProcess("services.ingest", command, self.environment, self.folder / "log")
        process.launch()
        assert process.wait_end(ENDED_S)
        return process.exit_code, process.log_text()

    def labels(self) -> list[tuple[LogRecord, Label]]:
        """Return what lies in the topic of labels."""
        records = read_topic(kafka_settings_in(self.environment), LABELS)
        return [(record, Label.FromString(record.value)) for record in records]


@pytest.fixture
def bank(topics: Mapping[str, str], tmp_path: Path) -> Bank:
    """Three archived transactions; the last two are of two cards with one id."""
    keys = tmp_path / "token-keys.json"
    write_token_keys(keys)
    tokeniser = Tokeniser(TokenKeys.load(keys))
    same = transaction(3)
    same.transaction_id = "t2"
    same.card_token = tokeniser.token_of("bank-north", "4" + 14 * "0" + "2")
    archive(tmp_path / "archive", [transaction(1), transaction(2), same], days_after=1)
    environment = {
        **topics,
        "FRAUD_INGEST_TOKEN_KEYS_FILE": str(keys),
        "FRAUD_INGEST_ARCHIVE_ROOT": str(tmp_path / "archive"),
    }
    return Bank(environment, tmp_path, tokeniser)


def test_rows_become_labels_and_bad_ones_are_told_with_their_line(bank: Bank) -> None:
    """One file with good rows and three faults: exit 65, and a file of what was refused."""
    pan = "4" + 14 * "0" + "2"
    event_ms = transaction(1).event_time_ms
    (bank.folder / "cb.csv").write_text(
        "bank_id,transaction_id,disposition,pan,event_time_ms,reason_code\n"
        f"bank-north,t1,confirmed_fraud,,{event_ms},10.4\n"
        f"bank-north,t2,genuine,{pan},{event_ms},\n"
        "bank-north,t2,confirmed_fraud,,,\n"
        "bank-north,t9,confirmed_fraud,,,\n"
        f"bank-north,{pan},confirmed_fraud,,,\n"
    )

    code, said = bank.run("cb.csv")

    assert code == 65
    assert "2 labels sent, 3 rows refused" in said
    assert {(label.card_token, label.transaction_id) for _, label in bank.labels()} == {
        (transaction(1).card_token, "t1"),
        (bank.tokeniser.token_of("bank-north", pan), "t2"),
    }
    assert all(record.key == label.card_token.encode() for record, label in bank.labels())
    with (bank.folder / "cb.csv.rejects.csv").open() as file:
        rejects = [(row["row"], row["reason"]) for row in csv.DictReader(file)]
    assert sorted(rejects) == [
        ("4", "LABEL_AMBIGUOUS"),
        ("5", "LABEL_ORPHAN"),
        ("6", "PAN_PRESENT"),
    ]
    assert pan not in (bank.folder / "cb.csv.rejects.csv").read_text() + said


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_sealed_number_of_a_file_tells_the_card(bank: Bank, form: str) -> None:
    """As base64, and in Parquet as bytes too; one in clear is refused where it must be sealed."""
    pan = "4" + 14 * "0" + "2"
    key_id = add_box_keys(bank.folder / "pan", Purpose.PAN_KEY)
    public = bytes(load_public_key(bank.folder / "pan" / f"{key_id}.pub"))
    sealed = seal_pan(public, "bank-north", "t2", pan)
    row: dict[str, Any] = {
        "bank_id": "bank-north",
        "transaction_id": "t2",
        "disposition": "genuine",
    }
    rows = [row | sealed.json_fields() | {"pan": ""}, row | {"pan": pan}]
    path = bank.folder / f"cb.{form}"
    if form == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    else:
        rows[0]["pan_sealed"] = sealed.pan_sealed
        pq.write_table(pa.Table.from_pylist(rows), path)
    told = {
        "FRAUD_INGEST_PAN_PRIVATE_KEYS": str(bank.folder / "pan"),
        "FRAUD_INGEST_REQUIRES_SEALED_PAN": "true",
    }

    code, said = replace(bank, environment={**bank.environment, **told}).run(path.name)

    assert (code, "1 labels sent, 1 rows refused" in said) == (65, True)
    assert [label.card_token for _, label in bank.labels()] == [
        bank.tokeniser.token_of("bank-north", pan)
    ]
    assert "PAN_UNSEALED" in (bank.folder / f"{path.name}.rejects.csv").read_text()


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_other_forms_give_the_same_and_a_second_import_the_same_again(
    bank: Bank, form: str
) -> None:
    """The label's id is that of the first import, so whoever reads it knows it."""
    fields = {"bank_id": "bank-north", "transaction_id": "t1", "disposition": "confirmed_fraud"}
    path = bank.folder / f"cb.{form}"
    if form == "jsonl":
        path.write_text(str(fields).replace("'", '"') + "\n")
    else:
        pq.write_table(pa.Table.from_pylist([fields]), path)

    codes = [bank.run(path.name)[0] for _ in range(2)]

    ids = [label.label_id for _, label in bank.labels()]
    assert codes == [0, 0]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert not (bank.folder / f"cb.{form}.rejects.csv").exists()


def test_run_goes_on_from_a_row(bank: Bank) -> None:
    """After a broker that was away: what is before was sent."""
    (bank.folder / "cb.csv").write_text(
        "bank_id,transaction_id,disposition\nbank-north,t0,genuine\nbank-north,t1,genuine\n"
    )

    code, said = bank.run("cb.csv", "--from-row", "3")

    assert code == 0
    assert "1 labels sent, 0 rows refused" in said


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FRAUD_INGEST_ARCHIVE_ROOT", "nowhere", "expected the root of the archive"),
        ("FRAUD_INGEST_TOKEN_KEYS_FILE", "absent.json", "cannot read absent.json"),
    ],
)
def test_missing_part_is_named_before_anything_is_sent(
    bank: Bank, variable: str, value: str, said: str
) -> None:
    """With exit 78."""
    (bank.folder / "cb.csv").write_text("bank_id,transaction_id,disposition\n")
    changed = Bank({**bank.environment, variable: value}, bank.folder, bank.tokeniser)

    code, text = changed.run("cb.csv")

    assert code == 78
    assert said in text
