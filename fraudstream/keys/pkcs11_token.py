"""A key-encrypting key in a PKCS#11 token: an HSM, a key service's library, SoftHSM in tests.

The key is an AES-256 key that the token does not give out; it wraps by CKM_AES_GCM. A session lasts
for one wrap or unwrap: key files are read when a process starts.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, cast

import pkcs11  # pyright: ignore[reportMissingImports]  # not on every developer's machine
from pkcs11.exceptions import (  # pyright: ignore[reportMissingImports]  # as above
    EncryptedDataInvalid,
    EncryptedDataLenRange,
    GeneralError,
    NoSuchKey,
    PKCS11Error,
)

from fraudstream.errors import InvalidSettings

_NONCE_BYTES: Final = 12
_TAG_BITS: Final = 128
# What tokens answer to a wrapped key that was changed: SoftHSM says no more than "general error".
_CHANGED: Final = (EncryptedDataInvalid, EncryptedDataLenRange, GeneralError)


class _AesKey(Protocol):
    """What the library's key can do; its own type says less."""

    def encrypt(self, data: bytes, *, mechanism: object, mechanism_param: object) -> bytes: ...

    def decrypt(self, data: bytes, *, mechanism: object, mechanism_param: object) -> bytes: ...


class Pkcs11KeyEncryption:
    """Key-encrypting keys of a token, each known by its label.

    Args:
        module: The token's PKCS#11 library.
        token: Label of the token.
        pin: Of its user.
        active: Label of the key in use.
    """

    def __init__(self, module: Path, token: str, pin: str, active: str) -> None:
        self._module = module
        self._token = token
        self._pin = pin
        self._active = active

    def wrap(self, data_key: bytes, context: bytes) -> tuple[str, bytes]:
        """Wrap under the key in use."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        with self._key(self._active) as key:
            wrapped = key.encrypt(
                data_key,
                mechanism=pkcs11.Mechanism.AES_GCM,
                mechanism_param=pkcs11.GCMParams(nonce, context, _TAG_BITS),
            )
        return self._active, nonce + bytes(wrapped)

    def unwrap(self, kek: str, wrapped: bytes, context: bytes) -> bytes:
        """Unwrap under the key of a label."""
        nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        with self._key(kek) as key:
            try:
                opened = key.decrypt(
                    sealed,
                    mechanism=pkcs11.Mechanism.AES_GCM,
                    mechanism_param=pkcs11.GCMParams(nonce, context, _TAG_BITS),
                )
            except _CHANGED as exc:
                raise ValueError("the wrapped key does not open") from exc
        return bytes(opened)

    def make_key(self, label: str) -> None:
        """Make a key that wraps and never leaves the token.

        Raises:
            InvalidSettings: There is one of this label, or the token refuses.
        """
        template = {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False}
        with self._session(is_writing=True) as session:
            criteria = {pkcs11.Attribute.LABEL: label}
            if list(session.get_objects(criteria)):
                raise InvalidSettings(f"token {self._token} has a key {label} already")
            session.generate_key(
                pkcs11.KeyType.AES, 256, label=label, store=True, template=template
            )

    @contextmanager
    def _key(self, label: str) -> Iterator[_AesKey]:
        with self._session() as session:
            try:
                key = session.get_key(label=label, object_class=pkcs11.ObjectClass.SECRET_KEY)
            except NoSuchKey as exc:
                msg = f"token {self._token}: expected key-encrypting key {label}, found none"
                raise InvalidSettings(msg) from exc
            yield cast(_AesKey, key)

    @contextmanager
    def _session(self, is_writing: bool = False) -> Iterator[pkcs11.Session]:
        try:
            token = pkcs11.lib(str(self._module)).get_token(token_label=self._token)
            with token.open(rw=is_writing, user_pin=self._pin) as session:
                yield session
        except (PKCS11Error, RuntimeError, OSError) as exc:
            # The library's text may hold nothing, or the path; never the PIN.
            msg = (
                f"PKCS#11 token {self._token} by {self._module}: expected it to be there and to"
                f" take the PIN, found {type(exc).__name__}"
            )
            raise InvalidSettings(msg) from exc
