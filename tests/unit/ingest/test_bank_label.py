"""A bank's label: what is read, what is refused, and which transaction it is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fraudstream.errors import InvalidSettings, InvalidTransaction
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from fraudstream.v1.label_pb2 import LABEL_SOURCE_CHARGEBACK, Disposition
from services.ingest.labels.accepted_lookup import FoundTransaction
from services.ingest.labels.bank_label import BankLabel, read_bank_label, settle
from services.ingest.labels.files import read_rows

NOW_MS = 1_790_000_000_000
EVENT_MS = 1_780_000_000_000
OLD_KEY = Tokeniser(TokenKeys("k1", {"k1": bytes(32)}))
TOKENISER = Tokeniser(TokenKeys("k2", {"k1": bytes(32), "k2": bytes(range(32))}))
PAN = "4" + 14 * "0" + "2"
TOKEN = str(OLD_KEY.token_of("bank", PAN))
PAID = FoundTransaction(TOKEN, EVENT_MS, "customer", "merchant", "", "device", "")
GOOD: dict[str, object] = {
    "bank_id": "bank",
    "transaction_id": "t-1",
    "disposition": "confirmed_fraud",
}


def label(**more: object) -> BankLabel:
    """Return a good label with some fields changed."""
    return read_bank_label(GOOD | more)


def test_label_has_what_its_transaction_had() -> None:
    """Entities and times come from the transaction, for the bank does not send them again."""
    made = settle(label(settled_at_ms=NOW_MS), frozenset(), {TOKEN: PAID}, NOW_MS)

    assert (made.card_token, made.event_time_ms, made.settled_at_ms) == (TOKEN, EVENT_MS, NOW_MS)
    assert (made.customer_id, made.merchant_id, made.device_id) == (
        "customer",
        "merchant",
        "device",
    )
    assert made.disposition == Disposition.DISPOSITION_CONFIRMED_FRAUD
    assert made.source == LABEL_SOURCE_CHARGEBACK


def test_card_number_finds_a_token_of_an_older_key() -> None:
    """The key may have been changed since the transaction."""
    named = label(pan=PAN)

    made = settle(named, named.cards(TOKENISER), {TOKEN: PAID, "bank.k1.other": PAID}, NOW_MS)

    assert made.card_token == TOKEN


@pytest.mark.parametrize(
    ("fields", "known", "reason"),
    [
        ({}, {}, "LABEL_ORPHAN"),
        ({"card_token": f"bank.k1.{'0' * 32}"}, {TOKEN: PAID}, "LABEL_ORPHAN"),
        ({}, {TOKEN: PAID, "another": PAID}, "LABEL_AMBIGUOUS"),
        ({"settled_at_ms": EVENT_MS - 1}, {TOKEN: PAID}, "LABEL_TIME"),
        ({"settled_at_ms": NOW_MS + 3_600_000}, {TOKEN: PAID}, "LABEL_TIME"),
    ],
)
def test_label_without_its_one_transaction_is_refused(
    fields: dict[str, object], known: dict[str, FoundTransaction], reason: str
) -> None:
    """Nothing is guessed: not the card, and not the time."""
    named = label(**fields)

    with pytest.raises(InvalidTransaction) as refused:
        settle(named, named.cards(TOKENISER), known, NOW_MS)

    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"bank_id": ""}, "BANK_INVALID"),
        ({"transaction_id": "t" * 65}, "ID_INVALID"),
        ({"transaction_id": PAN}, "PAN_PRESENT"),
        ({"disposition": "fraud"}, "DISPOSITION"),
        ({"pan": PAN[:-1] + "3"}, "PAN_INVALID"),
        ({"pan": "12"}, "PAN_INVALID"),
        ({"pan": PAN.zfill(19)}, "PAN_INVALID"),
        ({"pan": PAN, "card_token": TOKEN}, "CARD_AMBIGUOUS"),
        ({"card_token": "k1"}, "CARD_TOKEN"),
        ({"event_time_ms": "yesterday"}, "TIME_INVALID"),
        ({"event_time_ms": 1_780_000_000}, "TIME_INVALID"),
        ({"settled_at_ms": -1}, "LABEL_TIME"),
        ({"cvv": "123"}, "SAD_PRESENT"),
    ],
)
def test_bad_field_is_refused_by_its_reason(fields: dict[str, object], reason: str) -> None:
    """One code for each fault, and no card number in the message."""
    with pytest.raises(InvalidTransaction) as refused:
        label(**fields)

    assert refused.value.reason == reason
    assert PAN[:-1] not in refused.value.message


def test_same_act_has_the_same_id_and_another_verdict_another() -> None:
    """A file that is imported twice changes nothing; one that turns a verdict does."""
    ids = [
        settle(one, frozenset(), {TOKEN: PAID}, NOW_MS).label_id
        for one in (label(), label(), label(disposition="genuine"), label(label_id="c-9"))
    ]

    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_numbers_of_a_spreadsheet_are_ids() -> None:
    """A column of digits is read as numbers by what wrote the file."""
    assert label(transaction_id=12, event_time_ms=str(EVENT_MS)).key == ("bank", "12")


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.csv", "\ufeffbank_id,transaction_id,disposition\nb,t,genuine\nb,t\n", [(2, 3), (3, 0)]),
        ("a.jsonl", '{"bank_id": "b"}\n\nnothing\n[]\n', [(1, 1), (3, 0), (4, 0)]),
    ],
)
def test_rows_have_their_line(
    tmp_path: Path, name: str, text: str, rows: list[tuple[int, int]]
) -> None:
    """Whoever corrects a file looks for the line; a row that is no record stops no other."""
    path = tmp_path / name
    path.write_text(text)

    assert [(row.number, len(row.fields or ())) for row in read_rows(path)] == rows


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", b"", r"ends with one of \.csv, \.jsonl, \.parquet"),
        ("a.csv", b"bank_id,id\n", "expected columns disposition, transaction_id, found bank_id"),
        ("a.csv", b"\xff\xfe", "cannot be read: UnicodeDecodeError"),
        ("a.parquet", b"no", "cannot be read: Arrow"),
    ],
)
def test_file_of_another_form_is_named(
    tmp_path: Path, name: str, content: bytes, said: Any
) -> None:
    """Told before anything is sent."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InvalidSettings, match=said):
        list(read_rows(tmp_path / name))


def test_refused_token_names_no_keys_of_banks() -> None:
    """Which banks make tokens themselves is no other bank's to know."""
    tokeniser = Tokeniser(TokenKeys("k1", {"k1": bytes(32)}), ["north1", "south1"])

    with pytest.raises(InvalidTransaction) as refused:
        tokeniser.check(f"bank.zz9.{'ab' * 16}")

    assert "another key's" in str(refused.value)
    assert not [name for name in ("k1", "north1", "south1") if name in str(refused.value)]
