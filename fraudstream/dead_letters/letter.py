"""Dead letters: why a record was refused, a preview of safe fields, and the original under seal.

The original is sealed to a public key (NaCl SealedBox: X25519, XSalsa20, Poly1305), so whoever
writes or reads the topic cannot read a card number; the private key opens and replays. What must
never be kept, even sealed (verification values, tracks, PINs), and what is too large leave only
their size.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from nacl.public import PublicKey, SealedBox

from fraudstream.broker.quarantine import AnyRecord
from fraudstream.broker.wire.records import Unreadable
from fraudstream.card_data.detector import CardData, kind_of, mask
from fraudstream.dead_letters.preview import preview_of, traits_of
from fraudstream.errors import InvalidSettings
from fraudstream.keys.box_keys import BoxKeys, write_box_keys
from fraudstream.keys.secret_files import Purpose
from fraudstream.reject_reasons import RejectReason
from fraudstream.sealed_pan import key_id_of
from fraudstream.transaction.event_time import is_epoch_ms
from fraudstream.transaction.formats import Headers
from fraudstream.transaction.validate import MAX_VALUE_BYTES, SCHEMA_VERSION

FIRST_SEEN: Final = "dlq-first-seen"
ATTEMPTS: Final = "dlq-attempts"

_KEY_ID: Final = re.compile(r"[0-9a-f]{16}")
_MAX_ATTEMPTS: Final = 1_000_000
_MAX_KEPT_HEADERS: Final = 32
# Key and headers that are kept: with the largest value they make a letter of some 300 KB, which any
# broker takes. A record may have a megabyte of them.
_MOST_AROUND_BYTES: Final = 64 * 1024
# What is under seal does not shrink any more: a batch of a few KiB may unpack to 32 MiB of records,
# which a full disk of the brokers would be made of. Ordinary records are shorter.
_SHRUNK_BYTES: Final = 8 * 1024
_MOST_PACKED_BYTES: Final = 1 << 20
# Not even under seal: what the rules of the card schemes forbid to keep, and what has no bound.
_UNSEALED: Final = frozenset((RejectReason.SAD_PRESENT, RejectReason.TOO_LARGE))


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A record as it was read from a topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class ReadRecord(AnyRecord, Protocol):
    """A record as either client gives it, with all that its dead letter keeps."""

    @property
    def timestamp(self) -> int:
        """Epoch milliseconds."""
        ...

    @property
    def key(self) -> bytes | None:
        """Any key."""
        ...

    @property
    def headers(self) -> Headers:
        """Names and contents."""
        ...


def source_of(record: ReadRecord) -> SourceRecord:
    """Return a record as its dead letter keeps it."""
    return SourceRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        record.headers,
    )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What goes to the dead-letter topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class LetterWriter:
    """Makes dead letters of one stage.

    Args:
        public_key: To which originals are sealed.
        stage: Name of the service and step that refuses.
        clock: Epoch milliseconds.
    """

    def __init__(self, public_key: PublicKey, stage: str, clock: Callable[[], int]) -> None:
        self._box = SealedBox(public_key)
        self._key_id = key_id_of(bytes(public_key))
        self._stage = stage
        self._clock = clock

    def letter_of(self, record: SourceRecord, reason: str, message: str) -> DeadLetter:
        """Return the dead letter of a record.

        Args:
            record: The record as it was read.
            reason: Code of `RejectReason`.
            message: What was expected and found, without any value of the record.
        """
        # A number in a message is an index or a length, which a sender may choose.
        content: dict[str, object] = {
            "message": mask(message),
            "append_time_ms": record.timestamp_ms if is_epoch_ms(record.timestamp_ms) else 0,
        }
        value = record.value or b""
        size = value.size if isinstance(value, Unreadable) else len(value)
        is_large = size > MAX_VALUE_BYTES or _bytes_around(record) > _MOST_AROUND_BYTES
        if reason in _UNSEALED or is_large or _is_sensitive(record):
            content |= traits_of(value)
        else:
            content.update(preview_of(record.topic, record.headers, value))
            sealed = self._box.encrypt(_pack(record))
            content["sealed"] = base64.b64encode(sealed).decode()
            content["sealed_key_id"] = self._key_id
        return DeadLetter(
            key=f"{record.topic}/{record.partition}/{record.offset}".encode(),
            value=json.dumps(content, separators=(",", ":")).encode(),
            headers=self._headers(record, reason),
        )

    def _headers(self, record: SourceRecord, reason: str) -> list[tuple[str, bytes]]:
        found = dict(record.headers[:_MAX_KEPT_HEADERS])
        now_ms = self._clock()
        # No later than now, so that it is no card number of 13 digits: those begin with 4.
        first_seen = _number(found.get(FIRST_SEEN), now_ms) or now_ms
        attempts = _number(found.get(ATTEMPTS), _MAX_ATTEMPTS) + 1
        version = found.get(SCHEMA_VERSION) or b"1"
        return [
            ("reason", reason.encode()),
            ("stage", self._stage.encode()),
            ("topic", record.topic.encode()),
            ("partition", str(record.partition).encode()),
            ("offset", str(record.offset).encode()),
            ("schema_ver", version if version.isdigit() and len(version) <= 4 else b"unknown"),
            ("first_seen", str(first_seen).encode()),
            ("attempts", str(attempts).encode()),
        ]


def _bytes_around(record: SourceRecord) -> int:
    """Return how long the key and the headers of a record are together."""
    headers = record.headers[:_MAX_KEPT_HEADERS]
    return len(record.key or b"") + sum(len(name) + len(text or b"") for name, text in headers)


def _is_sensitive(record: SourceRecord) -> bool:
    """Return whether a record holds what may not be kept: in its key or its headers too."""
    headers = record.headers[:_MAX_KEPT_HEADERS]
    parts = (record.key, record.value, *(part for header in headers for part in header))
    return any(kind_of(part) is CardData.SAD for part in parts if part)


def _number(content: bytes | None, highest: int) -> int:
    """Return a number that an earlier dead letter left in a header, or 0."""
    if content is None or not content.isdigit() or len(content) > len(str(highest)):
        return 0
    return min(int(content), highest)


def _pack(record: SourceRecord) -> bytes:
    """Pack all that a replay needs: key, value, headers and timestamp."""
    content = {
        "key": None if record.key is None else base64.b64encode(record.key).decode(),
        "value": None if record.value is None else base64.b64encode(record.value).decode(),
        "headers": [
            (name, base64.b64encode(text or b"").decode())
            for name, text in record.headers[:_MAX_KEPT_HEADERS]
        ],
        "timestamp_ms": record.timestamp_ms,
    }
    packed = json.dumps(content, separators=(",", ":")).encode()
    return packed if len(packed) < _SHRUNK_BYTES else zlib.compress(packed, 1)


def _plain(packed: bytes) -> bytes:
    """Return the text that was packed; an object of JSON begins as nothing that is shrunk."""
    if packed.startswith(b"{"):
        return packed
    return zlib.decompressobj().decompress(packed, _MOST_PACKED_BYTES)


def unseal(letter_value: bytes, headers: Mapping[str, bytes], keys: BoxKeys) -> SourceRecord:
    """Return the original of a dead letter.

    Args:
        letter_value: Value of the dead letter.
        headers: Its headers.
        keys: Private keys; a letter names the one that opens it, or came before keys had ids.

    Raises:
        InvalidSettings: The letter holds no original, or another key sealed it.
    """
    try:
        content = json.loads(letter_value)
        if "sealed" not in content:
            raise InvalidSettings("this letter keeps no original; ask the bank to send it again")
        packed = json.loads(_plain(_opened(content, keys)))
        return SourceRecord(
            topic=headers["topic"].decode(),
            partition=int(headers["partition"]),
            offset=int(headers["offset"]),
            timestamp_ms=packed["timestamp_ms"],
            key=_unpack(packed["key"]),
            value=_unpack(packed["value"]),
            headers=[(name, base64.b64decode(text)) for name, text in packed["headers"]],
        )
    except (ValueError, KeyError, TypeError, RecursionError, zlib.error) as exc:
        raise InvalidSettings("the record is no dead letter of ours: no service wrote it") from exc


def _opened(content: Mapping[str, str], keys: BoxKeys) -> bytes:
    """Return what is under seal.

    Raises:
        InvalidSettings: None of the keys opens it.
        ValueError: No service wrote this.
    """
    named = content.get("sealed_key_id")
    if named is not None and not _KEY_ID.fullmatch(named):
        raise ValueError("expected the id of a key")
    sealed = base64.b64decode(content["sealed"])
    for key_id in [named] if named else keys.ids:
        try:
            return keys.open(key_id, sealed)
        except (KeyError, ValueError):
            continue
    found = ", ".join(keys.ids)
    needed = f"key {named}" if named else "another key"
    raise InvalidSettings(f"the original was sealed to {needed}, found {found}")


def _unpack(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def write_seal_keys(private_path: Path, public_path: Path) -> str:
    """Make a new pair: the private key for correctors (0400), the public one for the services.

    Returns:
        The id of the pair.

    Raises:
        InvalidSettings: One of the files exists or cannot be written.
    """
    return write_box_keys(private_path, public_path, Purpose.LETTER_KEY)


def load_private_keys(path: Path) -> BoxKeys:
    """Read the private key of dead letters, or a folder of them.

    Raises:
        InvalidSettings: There is none, or one is open to others or holds no key.
    """
    return BoxKeys.load(path, Purpose.LETTER_KEY)
