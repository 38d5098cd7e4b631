"""Dead letters: why a record was refused, a masked preview, and the original under seal.

The original is sealed to a public key (NaCl SealedBox: X25519, XSalsa20, Poly1305), so whoever
writes or reads the topic cannot read a card number; the private key mends and replays. What must
never be kept, even sealed (verification values, tracks, PINs), and what is too large leave only
their size and SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from fraudstream.errors import InvalidSettings
from fraudstream.privacy import holds_sensitive, mask_numbers, read_secret, write_secret
from fraudstream.reject_reasons import RejectReason
from fraudstream.transaction import MAX_VALUE_BYTES, SCHEMA_VERSION, Headers
from fraudstream.transaction_json import encode_json
from fraudstream.v1.transaction_pb2 import Transaction

FIRST_SEEN: Final = "dlq-first-seen"
ATTEMPTS: Final = "dlq-attempts"

_PREVIEW_READ: Final = 4096
_PREVIEW_CHARACTERS: Final = 512
_MAX_ATTEMPTS: Final = 1_000_000
_MAX_EPOCH_MS: Final = 4_102_444_800_000
_MAX_KEPT_HEADERS: Final = 32
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
        self._stage = stage
        self._clock = clock

    def letter_of(self, record: SourceRecord, reason: str, message: str) -> DeadLetter:
        """Return the dead letter of a record.

        Args:
            record: The record as it was read.
            reason: Code of `RejectReason`.
            message: What was expected and found, without any value of the record.
        """
        content: dict[str, str | int] = {
            "message": message,
            "append_time_ms": record.timestamp_ms,
        }
        value = record.value or b""
        if reason in _UNSEALED or len(value) > MAX_VALUE_BYTES or _is_sensitive(value):
            content["value_bytes"] = len(value)
            content["value_sha256"] = hashlib.sha256(value).hexdigest()
        else:
            content["preview"] = preview_of(value)
            sealed = self._box.encrypt(_pack(record))
            content["sealed"] = base64.b64encode(sealed).decode()
        return DeadLetter(
            key=f"{record.topic}/{record.partition}/{record.offset}".encode(),
            value=json.dumps(content, separators=(",", ":")).encode(),
            headers=self._headers(record, reason),
        )

    def _headers(self, record: SourceRecord, reason: str) -> list[tuple[str, bytes]]:
        found = dict(record.headers[:_MAX_KEPT_HEADERS])
        first_seen = _number(found.get(FIRST_SEEN), _MAX_EPOCH_MS) or self._clock()
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


def preview_of(value: bytes) -> str:
    """Return the first characters of a value with every longer number starred out.

    >>> preview_of(b'{"pan":"4' + b"0" * 14 + b'2"}')
    '{"pan":"****"}'
    """
    try:
        transaction = Transaction.FromString(value)
        is_message = value[:1] != b"{" and bool(transaction.bank_id)
    except DecodeError:
        is_message = False
    # Cut before the mask bounds the work; cut after it never leaves a number's beginning.
    text = (encode_json(transaction) if is_message else value[:_PREVIEW_READ]).decode(
        errors="backslashreplace"
    )
    masked = mask_numbers(text)[:_PREVIEW_CHARACTERS]
    return "".join(mark if mark.isprintable() else f"\\u{ord(mark):04x}" for mark in masked)


def _is_sensitive(value: bytes) -> bool:
    return holds_sensitive(value.decode(errors="backslashreplace"))


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
    return json.dumps(content, separators=(",", ":")).encode()


def unseal(letter_value: bytes, headers: Mapping[str, bytes], key: PrivateKey) -> SourceRecord:
    """Return the original of a dead letter.

    Args:
        letter_value: Value of the dead letter.
        headers: Its headers.
        key: Private key of the pair that sealed it.

    Raises:
        InvalidSettings: The letter holds no original, or another key sealed it.
    """
    content = json.loads(letter_value)
    if "sealed" not in content:
        raise InvalidSettings("this letter keeps no original; ask the bank to send it again")
    try:
        packed = json.loads(SealedBox(key).decrypt(base64.b64decode(content["sealed"])))
    except CryptoError as exc:
        raise InvalidSettings("the original was sealed to another key") from exc
    return SourceRecord(
        topic=headers["topic"].decode(),
        partition=int(headers["partition"]),
        offset=int(headers["offset"]),
        timestamp_ms=packed["timestamp_ms"],
        key=_unpack(packed["key"]),
        value=_unpack(packed["value"]),
        headers=[(name, base64.b64decode(text)) for name, text in packed["headers"]],
    )


def _unpack(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def write_seal_keys(private_path: Path, public_path: Path) -> None:
    """Make a new pair: the private key for mending (mode 0400), the public one for the services.

    Raises:
        InvalidSettings: One of the files exists or cannot be written.
    """
    private = PrivateKey.generate()
    write_secret(private_path, bytes(private).hex() + "\n")
    write_secret(public_path, bytes(private.public_key).hex() + "\n", mode=0o444)


def load_public_key(path: Path) -> PublicKey:
    """Read the public key.

    Raises:
        InvalidSettings: The file is missing or holds no key.
    """
    try:
        return PublicKey(bytes.fromhex(path.read_text()))
    except (OSError, ValueError, CryptoError) as exc:
        raise InvalidSettings(f"seal public key {path}: expected 32 bytes in hexadecimal") from exc


def load_private_key(path: Path) -> PrivateKey:
    """Read the private key from a file that no other user may read.

    Raises:
        InvalidSettings: The file is missing, open to others, or holds no key.
    """
    try:
        return PrivateKey(bytes.fromhex(read_secret(path)))
    except (ValueError, CryptoError) as exc:
        raise InvalidSettings(f"seal private key {path}: expected 32 bytes in hexadecimal") from exc
