"""Private X25519 keys by id: they open what others sealed to the public ones.

A key's id is derived from its public key, so nobody has to agree on one. To rotate, a new key comes
beside the old one: new boxes name the new id, and the old key stays until none of its own is left.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Self

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from fraudstream.errors import InvalidSettings
from fraudstream.keys.secret_files import Purpose, read_secret, write_new, write_secret
from fraudstream.sealed_pan import key_id_of


class BoxKeys:
    """Opens sealed boxes; about 75 µs each.

    Args:
        keys: The private keys.
    """

    def __init__(self, keys: Collection[PrivateKey]) -> None:
        self._boxes = {key_id_of(bytes(key.public_key)): SealedBox(key) for key in keys}
        self.public_keys = {key_id_of(bytes(key.public_key)): key.public_key for key in keys}

    @classmethod
    def load(cls, path: Path, purpose: Purpose) -> Self:
        """Read one private key file, or the files of a folder whose names end in `.key`.

        Raises:
            InvalidSettings: There is none, or one is open to others or holds no key.
        """
        files = sorted(path.glob("*.key")) if path.is_dir() else [path]
        if not files:
            raise InvalidSettings(f"{path}: expected private keys, files that end in .key")
        return cls([_load_key(file, purpose) for file in files])

    @property
    def ids(self) -> Collection[str]:
        """Ids of the keys."""
        return self._boxes.keys()

    def open(self, key_id: str, sealed: bytes) -> bytes:
        """Return what a box holds.

        Raises:
            KeyError: There is no key of this id.
            ValueError: It is no box of this key.
        """
        try:
            return self._boxes[key_id].decrypt(sealed)
        except (CryptoError, TypeError) as exc:
            raise ValueError("not sealed to this key") from exc


def _load_key(path: Path, purpose: Purpose) -> PrivateKey:
    try:
        return PrivateKey(bytes.fromhex(read_secret(path, purpose)))
    except (ValueError, CryptoError) as exc:
        raise InvalidSettings(f"private key {path}: expected 32 bytes in hexadecimal") from exc


def load_public_key(path: Path) -> PublicKey:
    """Read a public key.

    Raises:
        InvalidSettings: The file is missing or holds no key.
    """
    try:
        return PublicKey(bytes.fromhex(path.read_text()))
    except (OSError, ValueError, CryptoError) as exc:
        raise InvalidSettings(f"public key {path}: expected 32 bytes in hexadecimal") from exc


def write_box_keys(private_path: Path, public_path: Path, purpose: Purpose) -> str:
    """Make a new pair: the private file (mode 0400) and the public one (0444); return its id.

    Raises:
        InvalidSettings: One of the files exists or cannot be written.
    """
    private = PrivateKey.generate()
    _write_pair(private, private_path, public_path, purpose)
    return key_id_of(bytes(private.public_key))


def add_box_keys(folder: Path, purpose: Purpose) -> str:
    """Make a new pair in a folder, its files named by the key's id; return the id.

    Raises:
        InvalidSettings: It cannot be written there.
    """
    private = PrivateKey.generate()
    key_id = key_id_of(bytes(private.public_key))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise InvalidSettings(f"cannot make folder {folder}: {exc.strerror}") from exc
    _write_pair(private, folder / f"{key_id}.key", folder / f"{key_id}.pub", purpose)
    return key_id


def _write_pair(
    private: PrivateKey, private_path: Path, public_path: Path, purpose: Purpose
) -> None:
    write_secret(private_path, bytes(private).hex() + "\n", purpose)
    write_new(public_path, bytes(private.public_key).hex() + "\n", mode=0o444)
