"""Card tokens, which stand in the place of card numbers, and the keys that make them.

A token is `<bank_id>.<key id>.<HMAC-SHA-256 over bank and PAN, 128 bits in hexadecimal>`: nobody
without the key can try numbers against it, and a rotated key is told from the old one by its id.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final, Self

from fraudstream.errors import InvalidTransaction
from fraudstream.keys.key_ring import KeyRing, parse_key_ring
from fraudstream.keys.secret_files import Purpose, read_secret, replace_secret, write_secret
from fraudstream.reject_reasons import RejectReason
from fraudstream.transaction.identity import CardToken

KEY_IDS: Final = r"^([a-z0-9]{1,16}(,[a-z0-9]{1,16})*)?$"
"""Form of a setting that names keys of banks: ids, comma-separated."""

CARD_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{1,32})\.([a-z0-9]{1,16})\.[0-9a-f]{32}")
_MAC_HEX: Final = 32


def key_ids(text: str) -> list[str]:
    """Return the ids in a setting of the form `KEY_IDS`.

    >>> key_ids("north1,south1"), key_ids("")
    (['north1', 'south1'], [])
    """
    return [name for name in text.split(",") if name]


class TokenKeys(KeyRing):
    """Keys of the tokeniser. New tokens are made with the active one.

    Older ones stay for as long as their tokens are looked up.
    """

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file that no other user may read, plain or wrapped.

        Raises:
            InvalidSettings: The file is missing, open to others, or no key file.
        """
        text = read_secret(path, Purpose.TOKEN_KEYS)
        ring = parse_key_ring(path, text, "token keys")
        return cls(ring.active, ring.keys)

    @property
    def check_value(self) -> str:
        """Six hex digits that tell two active keys apart and give nothing of them away.

        Every service that makes tokens must show the same ones: with another key the same card
        has another token.

        >>> TokenKeys("k1", {"k1": bytes(32)}).check_value
        'bc751b'
        """
        return hmac.new(self.keys[self.active], b"key check value", "sha256").hexdigest()[:6]


class Tokeniser:
    """Makes card tokens, and knows under which keys others may. About 3 µs each; holds no number.

    Args:
        keys: Keys that make tokens.
        others: Ids of keys that banks have, which make tokens themselves; None for any.
    """

    def __init__(self, keys: TokenKeys, others: Collection[str] | None = ()) -> None:
        self._taken = None if others is None else frozenset((*keys.keys, *others))
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

    def check(self, token: str) -> None:
        """Refuse a well-formed token under a key that is neither ours nor named as a bank's.

        Its 32 digits would be anything that a sender likes to keep there.

        >>> tokeniser = Tokeniser(TokenKeys("k1", {"k1": bytes(32)}), ["north1"])
        >>> tokeniser.check(f"bank.north1.{'ab' * 16}")

        Raises:
            InvalidTransaction: `CARD_TOKEN`.
        """
        if self._taken is not None and token.split(".")[1] not in self._taken:
            # Which banks have keys here is no other caller's to know.
            msg = "card_token: expected a token under a key that is known here, found another key's"
            raise InvalidTransaction(RejectReason.CARD_TOKEN, msg)

    def tokens_of(self, bank_id: str, pan: str) -> tuple[CardToken, ...]:
        """Return a card's tokens under all keys, for looking up what an older key made.

        >>> keys = TokenKeys("k2", {"k1": bytes(32), "k2": bytes(32)})
        >>> len(Tokeniser(keys).tokens_of("bank", "4" + "0" * 14 + "2"))
        2
        """
        return tuple(
            Tokeniser(TokenKeys(name, self._keys)).token_of(bank_id, pan) for name in self._keys
        )


# For rows that have tokens: one with a card number must have been refused before.
NO_TOKENS: Final = Tokeniser(TokenKeys("none", {"none": bytes(32)}), None)


def write_token_keys(path: Path) -> None:
    """Make a file with one new key, mode 0400; wrapped where a key-encrypting key is set.

    Raises:
        InvalidSettings: The file exists or cannot be written.
    """
    write_secret(path, TokenKeys.new().text(), Purpose.TOKEN_KEYS)


def rotate_token_keys(path: Path) -> TokenKeys:
    """Add a key to a file and make it the active one; return what the file holds now.

    Raises:
        InvalidSettings: The file cannot be read, opened or replaced.
    """
    rotated = TokenKeys.load(path).rotated()
    replace_secret(path, rotated.text(), Purpose.TOKEN_KEYS)
    return rotated
