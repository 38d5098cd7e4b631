"""A ring of symmetric keys with ids: one is in use, the others open what was made before it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from fraudstream.errors import InvalidSettings

_KEY_ID: Final = re.compile(r"[a-z0-9]{1,16}")
_NUMBERED: Final = re.compile(r"k([0-9]{1,9})")
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by id.

    Attributes:
        active: Id of the key in use.
        keys: Id to 32 secret bytes.
    """

    active: str
    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """Return a ring of one new key, `k1`."""
        return cls("k1", {"k1": secrets.token_bytes(_KEY_BYTES)})

    def rotated(self) -> Self:
        """Return the ring with one more new key, which is in use from now on.

        >>> ring = KeyRing("k1", {"k1": bytes(32)}).rotated()
        >>> ring.active, list(ring.keys)
        ('k2', ['k1', 'k2'])
        """
        name = f"k{max(map(number_of, self.keys), default=0) + 1}"
        return type(self)(name, {**self.keys, name: secrets.token_bytes(_KEY_BYTES)})

    def without(self, name: str) -> Self:
        """Return the ring without an old key.

        Raises:
            InvalidSettings: It has none of this id, or that is the one in use.
        """
        if name not in self.keys or name == self.active:
            old = ", ".join(sorted({*self.keys} - {self.active})) or "none"
            raise InvalidSettings(f"expected the id of an old key ({old}), found {name!r}")
        return type(self)(self.active, {n: key for n, key in self.keys.items() if n != name})

    def text(self) -> str:
        """Return what its file holds."""
        keys = {name: key.hex() for name, key in self.keys.items()}
        return json.dumps({"active": self.active, "keys": keys}) + "\n"


def number_of(key_id: str) -> int:
    """Return which of a ring's keys an id names, by their order; 0 for an id that is no number.

    >>> number_of("k12"), number_of("spring")
    (12, 0)
    """
    found = _NUMBERED.fullmatch(key_id)
    return int(found.group(1)) if found else 0


def parse_key_ring(path: Path, text: str, what: str) -> KeyRing:
    """Read the content of a file of keys.

    Args:
        path: The file, for messages.
        text: What it holds.
        what: What these keys are called, for messages.

    Raises:
        InvalidSettings: It is no ring of keys.
    """
    try:
        content = json.loads(text)
        keys = {str(name): bytes.fromhex(key) for name, key in content["keys"].items()}
        active = str(content["active"])
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        msg = f"{what} {path}: expected JSON with active and keys (id to hexadecimal key)"
        raise InvalidSettings(msg) from exc
    if active not in keys or not all(
        _KEY_ID.fullmatch(name) and len(key) == _KEY_BYTES for name, key in keys.items()
    ):
        msg = f"{what} {path}: key ids are [a-z0-9]{{1,16}}, keys 32 bytes, active is one"
        raise InvalidSettings(msg)
    return KeyRing(active, keys)
