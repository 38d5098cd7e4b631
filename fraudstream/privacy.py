"""Card numbers: find them, mask them, and put a keyed token in their place.

A token is `<bank_id>.<key id>.<HMAC-SHA-256 over bank and PAN, 128 bits in hexadecimal>`: nobody
without the key can try numbers against it, and a rotated key is told from the old one by its id.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from fraudstream.errors import InvalidSettings
from fraudstream.identity import CardToken

CARD_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{1,32})\.([a-z0-9]{1,16})\.[0-9a-f]{32}")
_KEY_ID: Final = re.compile(r"[a-z0-9]{1,16}")
_KEY_BYTES: Final = 32
_MAC_HEX: Final = 32

# ISO/IEC 7812 issuer ranges of the networks in use, with the lengths that they issue.
_ISSUED: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11,16}|35(?:2[89]|[3-8]\d)\d{12,15}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|(?:62|81|82|60|508)\d{13,17}|220[0-4]\d{12,15}"
    r"|(?:5[06-8]|6\d)\d{10,17}|9792\d{12}"
)
# Digits of a number that somebody wrote in groups: up to two marks between two of them.
_GROUPED: Final = re.compile(r"\d(?:[^\w\"':,]{0,2}_?\d){11,}")
_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
# ISO/IEC 7813: start sentinel, PAN, separator of track 1 or track 2.
_TRACK: Final = re.compile(r"%?[Bb]\d{12,19}\^|;?\d{12,19}=\d{4}")
_SENSITIVE_NAMES: Final = (
    "cvv cvv2 cvc cvc2 cid csc cav2 cardverificationvalue securitycode track track1 track2 "
    "trackdata track1data track2data pin pinblock pindata magstripe"
)
_SENSITIVE: Final = frozenset(_SENSITIVE_NAMES.split())
_SENSITIVE_KEY: Final = re.compile(r'"((?:[^"\\]|\\.){1,64})"\s*:')
# A digit at an even place from the right counts double, its digits summed (Luhn, ISO/IEC 7812-1).
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_PLAIN: Final = bytes.maketrans(b"0123456789", bytes(range(10)))


def has_luhn_check(digits: str) -> bool:
    """Say whether a string of ASCII digits ends in its check digit.

    >>> has_luhn_check("79927398713"), has_luhn_check("79927398710")
    (True, False)
    """
    places = digits.encode()[::-1]
    total = sum(places[0::2].translate(_PLAIN)) + sum(places[1::2].translate(_DOUBLED))
    return total % 10 == 0


def fold_digits(text: str) -> str:
    r"""Return the text with the digits of every script and width as ASCII ones.

    >>> fold_digits("\uff14\u0661")
    '41'
    """
    if text.isascii():
        return text
    return "".join(
        str(unicodedata.digit(mark)) if mark.isdecimal() else mark
        for mark in unicodedata.normalize("NFKC", text)
    )


def holds_pan(text: str) -> bool:
    """Say whether a free text holds a card number: a known issuer's range and a right check digit.

    Spaces, dashes and other marks between digits, and digits of other scripts, do not hide it.

    >>> holds_pan("order 4000" + " 0000" * 3), holds_pan("order 4000" + "-0000" * 2 + "-0002")
    (False, True)
    """
    for group in _GROUPED.finditer(fold_digits(text)):
        digits = re.sub(r"\D", "", group.group())
        for start in range(len(digits) - 11):
            for end in range(start + 12, min(start + 19, len(digits)) + 1):
                number = digits[start:end]
                if _ISSUED.fullmatch(number) and has_luhn_check(number):
                    return True
    return False


def holds_number(text: str, pan: str) -> bool:
    """Say whether an id holds this very card number, with any marks between its digits.

    >>> pan = "4" + "0" * 14 + "2"
    >>> holds_number(f"c-{pan[:8]}-{pan[8:]}", pan)
    True
    """
    return pan in re.sub(r"\D", "", fold_digits(text))


def is_sensitive_name(name: str) -> bool:
    """Say whether a field's name is one of what must never be kept (PCI DSS 3.3).

    >>> is_sensitive_name("CVV_2"), is_sensitive_name("terminal_id")
    (True, False)
    """
    return re.sub(r"[^a-z0-9]", "", name.lower()) in _SENSITIVE


def holds_track(text: str) -> bool:
    """Say whether a text holds track data of a magnetic stripe.

    >>> holds_track(";4" + "0" * 14 + "2=3012")
    True
    """
    return _TRACK.search(fold_digits(text)) is not None


def holds_sensitive(text: str) -> bool:
    """Say whether a raw JSON text names a sensitive field or holds track data.

    >>> holds_sensitive('{"cvv": "123"}')
    True
    """
    names = (match.group(1) for match in _SENSITIVE_KEY.finditer(text))
    return holds_track(text) or any(is_sensitive_name(_unescape(name)) for name in names)


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), text)


def mask_numbers(text: str) -> str:
    """Return the text with every run of 12 or more digits starred out, however it is written.

    >>> mask_numbers("pan 4000" + " 0000" * 3 + ", amount 1200")
    'pan ****, amount 1200'
    """
    return _GROUPED.sub("****", _unescape(text))


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Keys of the tokeniser. New tokens are made with the active one.

    Attributes:
        active: Key id that new tokens carry.
        keys: Key id to 32 secret bytes; older ones stay for as long as their tokens are looked up.
    """

    active: str
    keys: Mapping[str, bytes]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file that no other user may read.

        Raises:
            InvalidSettings: The file is missing, open to others, or no key file.
        """
        try:
            content = json.loads(read_secret(path))
            keys = {str(name): bytes.fromhex(key) for name, key in content["keys"].items()}
            active = str(content["active"])
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            msg = f"token keys {path}: expected JSON with active and keys (id to hexadecimal key)"
            raise InvalidSettings(msg) from exc
        if active not in keys or not all(
            _KEY_ID.fullmatch(name) and len(key) == _KEY_BYTES for name, key in keys.items()
        ):
            msg = f"token keys {path}: key ids are [a-z0-9]{{1,16}}, keys 32 bytes, active is one"
            raise InvalidSettings(msg)
        return cls(active, keys)


class Tokeniser:
    """Makes card tokens. About 3 µs each; holds no card number."""

    def __init__(self, keys: TokenKeys) -> None:
        self._active = keys.active
        self._keys = dict(keys.keys)
        # A copy of a keyed state spares the two hash blocks that depend on the key alone.
        self._keyed = hmac.new(self._keys[keys.active], None, "sha256")

    def token_of(self, bank_id: str, pan: str) -> CardToken:
        """Return the token of a card under the active key.

        >>> tokeniser = Tokeniser(TokenKeys("k1", {"k1": bytes(32)}))
        >>> tokeniser.token_of("bank", "4" + "0" * 14 + "2")[:8]
        'bank.k1.'
        """
        mac = self._keyed.copy()
        mac.update(f"{bank_id}\x1f{pan}".encode())
        return CardToken(f"{bank_id}.{self._active}.{mac.hexdigest()[:_MAC_HEX]}")

    def tokens_of(self, bank_id: str, pan: str) -> tuple[CardToken, ...]:
        """Return a card's tokens under all keys, for looking up what an older key made.

        >>> keys = TokenKeys("k2", {"k1": bytes(32), "k2": bytes(32)})
        >>> len(Tokeniser(keys).tokens_of("bank", "4" + "0" * 14 + "2"))
        2
        """
        return tuple(
            Tokeniser(TokenKeys(name, self._keys)).token_of(bank_id, pan) for name in self._keys
        )


def read_secret(path: Path) -> str:
    """Read a text file that others may not read, and only its owner may write.

    A group may read it: that is how Kubernetes gives a secret to a user other than root.

    Raises:
        InvalidSettings: The file is missing or its mode is too open.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text()
    except OSError as exc:
        msg = f"cannot read {path}: {exc.strerror}"
        raise InvalidSettings(msg) from exc
    if mode & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP):
        msg = f"{path} has mode {mode:04o}, expected 0400: run chmod 0400 on it"
        raise InvalidSettings(msg)
    return text


def write_secret(path: Path, text: str, mode: int = 0o400) -> None:
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


def write_token_keys(path: Path) -> None:
    """Make a file with one new key, mode 0400.

    Raises:
        InvalidSettings: The file exists or cannot be written.
    """
    keys = {"k1": secrets.token_bytes(_KEY_BYTES).hex()}
    write_secret(path, json.dumps({"active": "k1", "keys": keys}) + "\n")
