"""Files that hold secrets: one reader and one writer for all of them, plain or wrapped.

A wrapped file is ciphertext under the key-encrypting key that `FRAUD_KEYS_*` names. This module
looks that up itself and only for a file that needs it: whoever reads a secret has its path alone,
and the client, which is installed without the rest of the project, reads plain files.
"""

from __future__ import annotations

import os
import stat
from enum import StrEnum
from pathlib import Path
from typing import Final

from fraudstream.errors import InvalidSettings

WRAPPED: Final = '{"fraudstream_wrapped":'
"""How a wrapped file begins."""


class Purpose(StrEnum):
    """What a secret file is for; a wrapped one opens for its own purpose only."""

    TOKEN_KEYS = "token-keys"  # noqa: S105  # the name of a purpose
    LETTER_KEY = "dead-letter-key"
    PAN_KEY = "pan-key"
    SIGNING_KEY = "signing-key"
    RECORD_KEYS = "record-keys"
    CONSOLE_KEY = "console-key"
    # Passwords, tokens and TLS keys: others make them and put them in place, mostly plain.
    SECRET = "secret"  # noqa: S105  # the name of a purpose


def read_secret(path: Path, purpose: Purpose = Purpose.SECRET) -> str:
    """Read a text file that others may not read, and only its owner may write; open a wrapped one.

    A group may read it: that is how Kubernetes gives a secret to a user other than root.

    Args:
        path: The file.
        purpose: What it is for.

    Raises:
        InvalidSettings: The file is missing, its mode is too open, it is wrapped and does not open,
            or it is plain where `FRAUD_KEYS_REQUIRES_WRAPPED` is set.
    """
    text = read_plain(path)
    if purpose is Purpose.SECRET and not text.startswith(WRAPPED):
        return text
    # Lies behind the reader of plain files: it needs more than the client installs.
    from fraudstream.keys.wrapped_files import unwrapped

    return unwrapped(path, text, purpose)


def read_plain(path: Path) -> str:
    """Read a text file that others may not read, as it stands.

    Raises:
        InvalidSettings: The file is missing, its mode is too open, or it is no text.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text()
    except OSError as exc:
        msg = f"cannot read {path}: {exc.strerror}"
        raise InvalidSettings(msg) from exc
    except UnicodeDecodeError as exc:
        raise InvalidSettings(f"{path}: expected text, found other bytes") from exc
    if mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP):
        msg = f"{path} has mode {mode:04o}, expected 0400: run chmod 0400 on it"
        raise InvalidSettings(msg)
    return text


def write_secret(path: Path, text: str, purpose: Purpose) -> None:
    """Write a new file, mode 0400: wrapped where a key-encrypting key is set.

    An existing file is never replaced.

    Raises:
        InvalidSettings: The file exists, cannot be written, or the key-encrypting key cannot be
            used; or there is none where `FRAUD_KEYS_REQUIRES_WRAPPED` is set.
    """
    from fraudstream.keys.wrapped_files import as_stored

    write_new(path, as_stored(path, text, purpose))


def write_new(path: Path, text: str, mode: int = 0o400) -> None:
    """Write a new file with its mode from the first moment; an existing one is never replaced.

    Raises:
        InvalidSettings: The file exists or cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as exc:
        msg = f"cannot create {path}: {exc.strerror}"
        raise InvalidSettings(msg) from exc
    with os.fdopen(handle, "w") as file:
        file.write(text)
        os.fchmod(handle, mode)
        file.flush()
        os.fsync(handle)


def replace_secret(path: Path, text: str, purpose: Purpose) -> None:
    """Put a new content in a secret file's place; wrapped where a key-encrypting key is set.

    Raises:
        InvalidSettings: As of `write_secret`, and where the file cannot be replaced.
    """
    from fraudstream.keys.wrapped_files import as_stored

    replace_file(path, as_stored(path, text, purpose))


def replace_file(path: Path, text: str) -> None:
    """Put a new content in a file's place at once; it keeps its mode.

    Raises:
        InvalidSettings: It cannot be written beside the file.
    """
    fresh = path.with_name(f".{path.name}.new")
    # One that a command left when it was cut off holds nothing that is needed.
    fresh.unlink(missing_ok=True)
    write_new(fresh, text, stat.S_IMODE(path.stat().st_mode))
    fresh.replace(path)
