"""Dead letters say why, show no card number, and give the original back to the key's holder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nacl.public import PrivateKey

from fraudstream.dead_letter import (
    ATTEMPTS,
    FIRST_SEEN,
    LetterWriter,
    SourceRecord,
    load_private_key,
    load_public_key,
    unseal,
    write_seal_keys,
)
from fraudstream.errors import InvalidSettings
from fraudstream.transaction_json import decode_json
from tests.bad_samples import good_sample
from training.messages import pan_of

NOW_MS = 1_780_000_000_000
KEY = PrivateKey(bytes(range(32)))
PAN = pan_of(9_000_000)
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


@pytest.mark.parametrize("forged", [b"-1", b"x", b"9" * 30, "\u0661".encode(), b""])
def test_forged_headers_are_not_believed(forged: bytes) -> None:
    """A sender's headers are input like any other."""
    replayed = record_of(b"{}", [(FIRST_SEEN, forged), (ATTEMPTS, forged)])
    headers = dict(WRITER.letter_of(replayed, "DECODE", "why").headers)

    assert (headers["first_seen"], headers["attempts"]) == (str(NOW_MS).encode(), b"1")


@pytest.mark.parametrize("is_protobuf", [False, True])
def test_letter_shows_no_card_number(is_protobuf: bool) -> None:
    """Neither key, value nor headers hold it; the preview shows the rest."""
    value = good_sample(NOW_MS)
    value = decode_json(value).SerializeToString() if is_protobuf else value
    letter = WRITER.letter_of(record_of(value), "MCC", "why")
    everything = letter.key + letter.value + b"".join(text for _, text in letter.headers)

    assert PAN.encode() not in everything
    assert PAN[:8].encode() not in everything
    assert "merchant-00017" in json.loads(letter.value)["preview"]


def test_original_comes_back_whole() -> None:
    """Key, value, headers and timestamp are what they were, to the byte."""
    original = record_of(b"\x00\xff" + good_sample(NOW_MS), [("content-type", b"x")])
    letter = WRITER.letter_of(original, "DECODE", "why")

    assert unseal(letter.value, dict(letter.headers), KEY) == original


def test_tombstone_comes_back_as_one() -> None:
    """Null is not the empty value."""
    letter = WRITER.letter_of(record_of(None), "TOMBSTONE", "why")

    assert unseal(letter.value, dict(letter.headers), KEY).value is None


def test_another_key_opens_nothing() -> None:
    """Only the holder of the private key reads an original."""
    letter = WRITER.letter_of(record_of(b"{}"), "DECODE", "why")

    with pytest.raises(InvalidSettings, match="another key"):
        unseal(letter.value, dict(letter.headers), PrivateKey.generate())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"cvv": "987"}', "SAD_PRESENT"),
        (b'{"cvv": "987", "cvv": "987"}', "DUP_KEY"),
        (b'{"cvv": "987"', "DECODE"),
        (b"987" + bytes(70_000), "TOO_LARGE"),
    ],
)
def test_what_must_not_be_kept_leaves_only_its_hash(value: bytes, reason: str) -> None:
    """Not even under seal: verification values, whatever else is wrong, and what has no bound."""
    letter = WRITER.letter_of(record_of(value), reason, "why")

    assert set(json.loads(letter.value)) == {
        "message",
        "append_time_ms",
        "value_bytes",
        "value_sha256",
    }
    with pytest.raises(InvalidSettings, match="no original"):
        unseal(letter.value, dict(letter.headers), KEY)


def test_key_files_open_what_they_sealed(tmp_path: Path) -> None:
    """The public file is for services, the private one for its owner alone."""
    private_path, public_path = tmp_path / "private", tmp_path / "public"
    write_seal_keys(private_path, public_path)
    writer = LetterWriter(load_public_key(public_path), "ingest", lambda: NOW_MS)
    letter = writer.letter_of(record_of(b"{}"), "DECODE", "why")
    opened = unseal(letter.value, dict(letter.headers), load_private_key(private_path))

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
        load_private_key(path)
