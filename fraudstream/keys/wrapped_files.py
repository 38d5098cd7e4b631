"""Wrapped key files: the content under a data key of its own, that key under a key-encrypting key.

A file is one line of JSON: purpose and name in clear, the id of the key-encrypting key, the wrapped
data key, and the content by AES-256-GCM. Purpose and name are authenticated with both, so that no
file passes for another one. Changing the key-encrypting key touches the wrapped data key alone.
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraudstream.errors import InvalidSettings
from fraudstream.keys.key_encryption import KeyEncryption, open_key_encryption
from fraudstream.keys.secret_files import WRAPPED, Purpose
from fraudstream.keys.settings import KeysSettings

_DATA_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12

_MAX_BASE64: Final = 256 * 1024


class WrappedFile(BaseModel):
    """What a wrapped file holds.

    Attributes:
        fraudstream_wrapped: Version of this form.
        purpose: What the content is for.
        name: Of the file: one that stands in another's place does not open.
        kek: Id of the key-encrypting key.
        key: The data key, wrapped, base64.
        nonce: Of the content, base64.
        content: AES-256-GCM under the data key, base64.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    fraudstream_wrapped: Literal[1] = 1
    purpose: Purpose
    name: str = Field(min_length=1, max_length=255)
    kek: str = Field(min_length=1, max_length=64)
    key: str = Field(max_length=_MAX_BASE64)
    nonce: str = Field(max_length=_MAX_BASE64)
    content: str = Field(max_length=_MAX_BASE64)

    def text(self) -> str:
        """Return the file's line."""
        return f"{self.model_dump_json()}\n"


def wrap(text: str, purpose: Purpose, name: str, encryption: KeyEncryption) -> WrappedFile:
    """Return a text as a wrapped file under the key in use.

    Raises:
        InvalidSettings: The key cannot be used.
    """
    context = _context(purpose, name)
    data_key, nonce = secrets.token_bytes(_DATA_KEY_BYTES), secrets.token_bytes(_NONCE_BYTES)
    kek, wrapped = encryption.wrap(data_key, context)
    return WrappedFile(
        purpose=purpose,
        name=name,
        kek=kek,
        key=_base64(wrapped),
        nonce=_base64(nonce),
        content=_base64(AESGCM(data_key).encrypt(nonce, text.encode(), context)),
    )


def rewrap(path: Path, file: WrappedFile, former: KeyEncryption, now: KeyEncryption) -> WrappedFile:
    """Return a wrapped file under the key now in use; its content stays as it is, and is checked.

    Raises:
        InvalidSettings: It does not open, or the key cannot be used.
    """
    data_key, _ = _opened(path, file, former)
    kek, wrapped = now.wrap(data_key, _context(file.purpose, file.name))
    return file.model_copy(update={"kek": kek, "key": _base64(wrapped)})


def parse(path: Path, text: str) -> WrappedFile:
    """Read a wrapped file's line.

    Raises:
        InvalidSettings: It is none, or a part of it is gone.
    """
    try:
        return WrappedFile.model_validate_json(text)
    except ValidationError as exc:
        msg = f"{path}: expected a wrapped key file, found one that is cut or changed"
        raise InvalidSettings(msg) from exc


def unwrapped(path: Path, text: str, purpose: Purpose) -> str:
    """Return the content of a secret file that is plain or wrapped.

    Raises:
        InvalidSettings: It is plain where it must not be, or does not open.
    """
    settings = KeysSettings.read()
    if not text.startswith(WRAPPED):
        if settings.requires_wrapped and purpose is not Purpose.SECRET:
            raise InvalidSettings(
                f"{path} is a plain key file and FRAUD_KEYS_REQUIRES_WRAPPED is set: run"
                f" `fraudstream keys wrap --purpose {purpose} {path}`"
            )
        return text
    file = parse(path, text)
    if file.purpose is not purpose:
        raise InvalidSettings(f"{path} is a wrapped file for {file.purpose}, expected {purpose}")
    if file.name != path.name:
        msg = f"{path} was wrapped as {file.name}, expected {path.name}: put each file in its place"
        raise InvalidSettings(msg)
    encryption = open_key_encryption(settings)
    if encryption is None:
        raise InvalidSettings(
            f"{path} is wrapped under key-encrypting key {file.kek}: expected"
            " FRAUD_KEYS_KEK_FILE or FRAUD_KEYS_PKCS11_MODULE to name where that key is"
        )
    return open_file(path, file, encryption)


def as_stored(path: Path, text: str, purpose: Purpose) -> str:
    """Return what a new secret file is to hold: wrapped where a key-encrypting key is set.

    Raises:
        InvalidSettings: None is set where key files must be wrapped, or it cannot be used.
    """
    if purpose is Purpose.SECRET:
        return text
    settings = KeysSettings.read()
    encryption = open_key_encryption(settings)
    if encryption is not None:
        return wrap(text, purpose, path.name, encryption).text()
    if settings.requires_wrapped:
        raise InvalidSettings(
            "FRAUD_KEYS_REQUIRES_WRAPPED is set: expected FRAUD_KEYS_KEK_FILE or"
            " FRAUD_KEYS_PKCS11_MODULE beside it"
        )
    return text


def open_file(path: Path, file: WrappedFile, encryption: KeyEncryption) -> str:
    """Return the content of a wrapped file.

    Raises:
        InvalidSettings: It does not open.
    """
    return _opened(path, file, encryption)[1]


def _opened(path: Path, file: WrappedFile, encryption: KeyEncryption) -> tuple[bytes, str]:
    """Return the data key of a wrapped file, asked for once, and its content."""
    context = _context(file.purpose, file.name)
    try:
        data_key = encryption.unwrap(file.kek, _bytes(file.key), context)
        content = AESGCM(data_key).decrypt(_bytes(file.nonce), _bytes(file.content), context)
        return data_key, content.decode()
    except (InvalidTag, ValueError) as exc:
        msg = (
            f"{path} does not open under key-encrypting key {file.kek}: it was changed, or that key"
            " is another one of the same id"
        )
        raise InvalidSettings(msg) from exc


def _context(purpose: Purpose, name: str) -> bytes:
    return f"fraudstream wrapped 1\n{purpose}\n{name}".encode()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
