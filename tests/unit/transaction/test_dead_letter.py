"""Dead letters say why, show no card number, and give the original back to the key's holder."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from nacl.public import PrivateKey, SealedBox

from fraudstream.dead_letters.letter import (
    ATTEMPTS,
    FIRST_SEEN,
    LetterWriter,
    SourceRecord,
    load_private_keys,
    unseal,
    write_seal_keys,
)
from fraudstream.errors import InvalidSettings
from fraudstream.keys.box_keys import BoxKeys, load_public_key
from fraudstream.transaction.formats import CONTENT_TYPE, PROTOBUF
from fraudstream.transaction.json_form import decode_json
from tests.material.bad_samples import good_sample
from training.simulator.messages import pan_of

NOW_MS = 1_780_000_000_000
KEY = PrivateKey(bytes(range(32)))
PAN = pan_of(10_000)
KEYS = BoxKeys([KEY])
WRITER = LetterWriter(KEY.public_key, "ingest", lambda: NOW_MS)


def record_of(value: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> SourceRecord:
    """Return a raw record with this value."""
    return SourceRecord("raw", 3, 42, NOW_MS - 5, PAN.encode(), value, headers or [])


def test_headers_say_what_is_needed_to_find_the_record() -> None:
    """Reason, stage, source, schema version, first sight and attempts."""
    headers = dict(WRITER.letter_of(record_of(b"{}"), "DECODE", "why").headers)

    assert headers == {
        "reason": b"DECODE",
        "stage": b"ingest",
        "topic": b"raw",
        "partition": b"3",
        "offset": b"42",
        "schema_ver": b"1",
        "first_seen": str(NOW_MS).encode(),
        "attempts": b"1",
    }


def test_attempts_and_first_sight_survive_a_replay() -> None:
    """A letter of a replayed record counts on."""
    replayed = record_of(b"{}", [(FIRST_SEEN, b"1700000000000"), (ATTEMPTS, b"2")])
    headers = dict(WRITER.letter_of(replayed, "DECODE", "why").headers)

    assert (headers["first_seen"], headers["attempts"]) == (b"1700000000000", b"3")


@pytest.mark.parametrize(
    "forged", [b"-1", b"x", b"9" * 30, "\u0661".encode(), b"", b"4000000000006"]
)
def test_forged_headers_are_not_believed(forged: bytes) -> None:
    """A sender's headers are input like any other."""
    replayed = record_of(b"{}", [(FIRST_SEEN, forged), (ATTEMPTS, forged)])
    headers = dict(WRITER.letter_of(replayed, "DECODE", "why").headers)

    assert (headers["first_seen"], headers["attempts"]) == (str(NOW_MS).encode(), b"1")


@pytest.mark.parametrize("is_protobuf", [False, True])
def test_letter_shows_no_card_number(is_protobuf: bool) -> None:
    """Neither key, value nor headers hold it; the preview shows safe fields, others' lengths."""
    value = good_sample(NOW_MS)
    value = decode_json(value).SerializeToString() if is_protobuf else value
    headers = [(CONTENT_TYPE, PROTOBUF)] if is_protobuf else []
    letter = WRITER.letter_of(record_of(value, headers), "MCC", "why")
    everything = letter.key + letter.value + b"".join(text for _, text in letter.headers)

    assert PAN.encode() not in everything
    assert PAN[:8].encode() not in everything
    assert b"merchant-00030" not in everything
    preview = json.loads(letter.value)["preview"]
    assert (preview["currency"], preview["merchant_id"]) == ("EUR", "<string, 14>")


def test_original_comes_back_whole() -> None:
    """Key, value, headers and timestamp are what they were, to the byte."""
    original = record_of(b"\x00\xff" + good_sample(NOW_MS), [("content-type", b"x")])
    letter = WRITER.letter_of(original, "DECODE", "why")

    assert unseal(letter.value, dict(letter.headers), KEYS) == original


def test_tombstone_comes_back_as_one() -> None:
    """Null is not the empty value."""
    letter = WRITER.letter_of(record_of(None), "TOMBSTONE", "why")

    assert unseal(letter.value, dict(letter.headers), KEYS).value is None


def test_each_letter_names_the_key_that_opens_it() -> None:
    """After a rotation the old key opens old letters, the new one new ones, both together all."""
    new = PrivateKey.generate()
    letters = [
        LetterWriter(key.public_key, "ingest", lambda: NOW_MS).letter_of(record_of(b"{}"), "X", "")
        for key in (KEY, new)
    ]

    opened = [unseal(one.value, dict(one.headers), BoxKeys([new, KEY])) for one in letters]

    assert [one.value for one in opened] == [b"{}", b"{}"]
    with pytest.raises(InvalidSettings, match="sealed to key"):
        unseal(letters[0].value, dict(letters[0].headers), BoxKeys([new]))


def test_letter_of_before_keys_had_ids_still_opens() -> None:
    """It names no key: each is tried."""
    letter = WRITER.letter_of(record_of(b"{}"), "DECODE", "why")
    content = json.loads(letter.value)
    del content["sealed_key_id"]
    keys = BoxKeys([PrivateKey.generate(), KEY])

    assert unseal(json.dumps(content).encode(), dict(letter.headers), keys).value == b"{}"


def test_another_key_opens_nothing() -> None:
    """Only the holder of the private key reads an original."""
    letter = WRITER.letter_of(record_of(b"{}"), "DECODE", "why")

    with pytest.raises(InvalidSettings, match="sealed to key"):
        unseal(letter.value, dict(letter.headers), BoxKeys([PrivateKey.generate()]))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"cvv": "987"}', "SAD_PRESENT"),
        (b'{"cvv": "987", "cvv": "987"}', "DUP_KEY"),
        (b'{"cvv": "987"', "DECODE"),
        (b"987" + bytes(70_000), "TOO_LARGE"),
    ],
)
def test_what_must_not_be_kept_leaves_only_its_size(value: bytes, reason: str) -> None:
    """Not even under seal: verification values, whatever else is wrong, and what has no bound."""
    letter = WRITER.letter_of(record_of(value), reason, "why")

    assert set(json.loads(letter.value)) == {
        "message",
        "append_time_ms",
        "value_bytes",
    }
    with pytest.raises(InvalidSettings, match="no original"):
        unseal(letter.value, dict(letter.headers), KEYS)


def test_key_files_open_what_they_sealed(tmp_path: Path) -> None:
    """The public file is for services, the private one for its owner alone."""
    private_path, public_path = tmp_path / "private", tmp_path / "public"
    write_seal_keys(private_path, public_path)
    writer = LetterWriter(load_public_key(public_path), "ingest", lambda: NOW_MS)
    letter = writer.letter_of(record_of(b"{}"), "DECODE", "why")
    opened = unseal(letter.value, dict(letter.headers), load_private_keys(private_path))

    assert opened.value == b"{}"
    assert private_path.stat().st_mode & 0o777 == 0o400


def test_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    """A wrong file is named, not used."""
    path = tmp_path / "key"
    path.write_text("00")
    path.chmod(0o400)

    with pytest.raises(InvalidSettings, match="public key"):
        load_public_key(path)
    with pytest.raises(InvalidSettings, match="private key"):
        load_private_keys(path)


def test_letter_that_is_nested_too_deep_is_none_of_ours() -> None:
    """Around the seal or under it: whoever replays all letters goes on with the next."""
    letter = WRITER.letter_of(record_of(b"{}"), "DECODE", "why")
    nested = b'{"key":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    sealed = base64.b64encode(SealedBox(KEY.public_key).encrypt(nested)).decode()
    around = json.dumps({"sealed": sealed}).encode()

    for value in (nested, around):
        with pytest.raises(InvalidSettings, match="no dead letter of ours"):
            unseal(value, dict(letter.headers), KEYS)
