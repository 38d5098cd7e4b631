"""What an outsider found afterwards: numbers as programs print them, records made to stop us."""

from __future__ import annotations

import json
import unicodedata
from typing import NamedTuple

import pytest
from nacl.public import PrivateKey

from fraudstream.broker.clients import BATCH_BYTES
from fraudstream.card_data.detector import CardData, kind_of
from fraudstream.card_data.plain_text import fold_digits
from fraudstream.dead_letters.letter import LetterWriter, SourceRecord, unseal
from fraudstream.errors import InvalidTransaction
from fraudstream.keys.box_keys import BoxKeys
from fraudstream.sealed_pan import seal_pan
from fraudstream.transaction.validate import decode_transaction, validate_transaction
from services.ingest.labels.bank_label import read_bank_label
from services.ingest.pan_opener import PanOpener
from tests.material.bad_samples import good_sample
from tests.worlds.accepted_rows import accepted_record, transaction_of
from training.simulator.messages import pan_of

pytestmark = pytest.mark.attack

NOW_MS = 1_780_000_000_000
PAN = pan_of(1)
GROUPS = [PAN[at : at + 4] for at in range(0, 16, 4)]
TOPIC = "transactions.raw.v1"


class RawLabel(NamedTuple):
    """A record as a consumer gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def _forms() -> dict[str, str]:
    """Return one card number as programs and people write it."""
    return {
        "thousands": f"{int(PAN):,}",
        "thousands of another country": f"{int(PAN):,}".replace(",", "."),
        "a fraction's print": f"{PAN[0]}.{PAN[1:]}E15",
        "last four apart": f"{PAN[:12]}-{PAN[12:]}",
        "first four apart": f"{PAN[:4]} {PAN[4:]}",
        "long vowels for dashes": "\u30fc".join(GROUPS),
        "half-width long vowels": "\uff70".join(GROUPS),
        "letters that show nothing": "\u3164".join(GROUPS),
        "letters that look like colons": "\u02d0".join(GROUPS),
        "a currency in front": f"cad{PAN}",
        "a month behind": f"{PAN}dec",
    }


@pytest.mark.parametrize("text", _forms().values(), ids=_forms())
def test_another_cards_number_is_refused_as_programs_print_it(text: str) -> None:
    """What a spreadsheet, an ETL or a label made of a number is the number still."""
    fields = json.loads(good_sample(NOW_MS)) | {"customer_id": text}
    fields = {name: value for name, value in fields.items() if name != "pan"}
    fields["card_token"] = f"{fields['bank_id']}.k7.{'ab' * 16}"
    transaction = decode_transaction(json.dumps(fields).encode(), [])
    with pytest.raises(InvalidTransaction) as caught:
        validate_transaction(transaction, NOW_MS)
    assert caught.value.reason == "PAN_PRESENT"


@pytest.mark.parametrize("begin", ["67030000000000003", "8600120123456788", "9860010123456789"])
def test_numbers_of_domestic_schemes_are_found(begin: str) -> None:
    """Bancontact has 17 digits; others begin with 8 or 9."""
    digits = begin[:-1]
    found = {kind_of(f"{digits}{last}") for last in range(10)}
    assert CardData.PAN in found


def test_reference_numbers_beside_others_are_none() -> None:
    """The id that the product's own pages recommend stays one."""
    ids = [f"0100-{123_400 + at}-601512345678-0105" for at in range(200)]
    assert {kind_of(one) for one in ids} == {CardData.NONE}


def test_no_text_has_signs_to_sort() -> None:
    """64 KiB of two signs in turn took seconds each, and one batch of them stopped ingest."""
    for code in range(128, 0x20000):
        folded = fold_digits(chr(code) * 2)
        assert not unicodedata.combining(folded[0]), hex(code)


@pytest.mark.parametrize("around", ["key", "header"])
def test_a_dead_letter_fits_its_topic_whatever_is_around_the_value(around: str) -> None:
    """A record's megabyte of key or headers made a letter that no broker took: ingest ended."""
    much = b"k" * 900_000
    key, headers = (much, []) if around == "key" else (None, [("h", much)])
    writer = LetterWriter(PrivateKey.generate().public_key, "test", lambda: NOW_MS)
    letter = writer.letter_of(SourceRecord(TOPIC, 0, 0, 0, key, b"{}", headers), "HEADERS", "no")
    assert len(letter.value) < BATCH_BYTES // 2


def test_a_packed_batch_becomes_no_gigabytes_of_letters() -> None:
    """512 records of 64 KiB from a batch of some KiB were 60 MB of a topic for 30 days."""
    private = PrivateKey.generate()
    writer = LetterWriter(private.public_key, "test", lambda: NOW_MS)
    source = SourceRecord(TOPIC, 0, 0, 0, None, b'{"a":"' + b"4" * 65_000, [])
    letter = writer.letter_of(source, "DECODE", "no")
    assert len(letter.value) < 2_000
    headers = {
        name: text for name, text in letter.headers if name in ("topic", "partition", "offset")
    }
    assert unseal(letter.value, headers, BoxKeys([private])) == source


def test_a_form_that_ingest_did_not_know_costs_its_row_and_not_its_shard() -> None:
    """Scoring refuses the whole batch of a row with card data: its shard began again, for ever."""
    from services.features.rows.accepted_rows import BadRow, decode_row

    transaction = transaction_of("t-1", 100)
    transaction.merchant_id = f"{int(PAN):,}"
    row = decode_row(accepted_record(transaction, 7), 0.0)
    assert isinstance(row, BadRow)
    assert row.reason == "PAN_PRESENT"


def test_half_a_character_in_a_label_costs_that_label() -> None:
    """It passed the JSON parser and ended `labels follow` where the sealed number was looked at."""
    private = PrivateKey.generate()
    sealed = seal_pan(bytes(private.public_key), "b", "t", PAN).json_fields()
    fields = {"bank_id": "\ud800", "transaction_id": "t", "disposition": "genuine", **sealed}
    with pytest.raises(InvalidTransaction):
        read_bank_label(PanOpener(BoxKeys([private])).open_fields(json.loads(json.dumps(fields))))


def test_waiting_labels_of_one_topic_leave_room_for_another() -> None:
    """10,000 labels of 60 KiB were kept, and a flood of one bank refused another's."""
    from services.ingest.labels.loop import Waiting, crowded_of

    label = read_bank_label({"bank_id": "b", "transaction_id": "t", "disposition": "genuine"})
    flood = [_raw("south", at, b" " * 60_000) for at in range(2_000)]
    waiting = [Waiting(one, label) for one in (_raw("north", 0, b"{}"), *flood)]
    crowded, kept = crowded_of(waiting)
    assert kept[0].record.topic == "north"
    assert sum(len(one.record.value or b"") for one in kept) < 20 << 20
    assert [one.record.offset for one in crowded] == list(range(len(crowded)))


def _raw(topic: str, offset: int, value: bytes) -> RawLabel:
    return RawLabel(topic, 0, offset, NOW_MS, 1, None, value, [])
