"""The key-encrypting key: it wraps the data keys of key files and stays where it is kept."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fraudstream.errors import InvalidSettings
from fraudstream.keys.key_ring import KeyRing, parse_key_ring
from fraudstream.keys.secret_files import read_plain
from fraudstream.keys.settings import KeysSettings

_NONCE_BYTES: Final = 12


class KeyEncryption(Protocol):
    """Where key-encrypting keys are: a file, or a token that keeps them to itself."""

    def wrap(self, data_key: bytes, context: bytes) -> tuple[str, bytes]:
        """Return the id of the key in use, and a data key wrapped under it.

        Args:
            data_key: 32 bytes.
            context: What it belongs to; without the same it does not open.

        Raises:
            InvalidSettings: The key cannot be used.
        """
        ...

    def unwrap(self, kek: str, wrapped: bytes, context: bytes) -> bytes:
        """Return a data key.

        Args:
            kek: Id of the key under which it is.
            wrapped: As `wrap` returned it.
            context: As it was given to `wrap`.

        Raises:
            InvalidSettings: There is no key of this id, or it cannot be used.
            ValueError: The wrapped key was changed, or belongs to something else.
        """
        ...


class FileKeyEncryption:
    """Key-encrypting keys of a file: AES-256-GCM, a fresh nonce each.

    Args:
        path: The file, for messages.
        ring: What it holds.
    """

    def __init__(self, path: Path, ring: KeyRing) -> None:
        self._path = path
        self._ring = ring

    def wrap(self, data_key: bytes, context: bytes) -> tuple[str, bytes]:
        """Wrap under the active key."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        key = self._ring.keys[self._ring.active]
        return self._ring.active, nonce + AESGCM(key).encrypt(nonce, data_key, context)

    def unwrap(self, kek: str, wrapped: bytes, context: bytes) -> bytes:
        """Unwrap under any key of the file."""
        key = self._ring.keys.get(kek)
        if key is None:
            found = ", ".join(self._ring.keys)
            msg = f"{self._path}: expected key-encrypting key {kek}, found {found}"
            raise InvalidSettings(msg)
        try:
            return AESGCM(key).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], context)
        except InvalidTag as exc:
            raise ValueError("the wrapped key does not open") from exc


def open_kek_file(path: Path) -> FileKeyEncryption:
    """Read a file of key-encrypting keys; it is the one key file that is never wrapped itself.

    Raises:
        InvalidSettings: It is missing, others may read it, or it holds no such keys.
    """
    return FileKeyEncryption(path, parse_key_ring(path, read_plain(path), "key-encrypting keys"))


def open_key_encryption(settings: KeysSettings) -> KeyEncryption | None:
    """Return what the settings name; None where they name nothing.

    Raises:
        InvalidSettings: It is not there, or cannot be used.
    """
    if settings.kek_file:
        return open_kek_file(settings.kek_file)
    if settings.pkcs11_module and settings.pkcs11_pin_file:
        # Loads a library of the system, which most installations do not have.
        from fraudstream.keys.pkcs11_token import Pkcs11KeyEncryption

        pin = read_plain(settings.pkcs11_pin_file).strip()
        module, token = settings.pkcs11_module, settings.pkcs11_token
        return Pkcs11KeyEncryption(module, token, pin, settings.pkcs11_key)
    return None
