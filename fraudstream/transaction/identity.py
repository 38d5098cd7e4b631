"""What makes two transactions the same: identity, digest, and the ids derived from them."""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NewType

from fraudstream.v1.transaction_pb2 import Transaction

CardToken = NewType("CardToken", str)
Identity = NewType("Identity", bytes)
Digest = NewType("Digest", bytes)

IDENTITY_BYTES: Final = 16
DIGEST_BYTES: Final = 32
_LENGTHS: Final = struct.Struct("<III")


def identity_of(bank_id: str, card_token: str, transaction_id: str) -> Identity:
    """Return the 16-byte identity of a transaction: bank, card token and the bank's id.

    Lengths are part of it, so no two triples run into each other.

    >>> identity_of("b", "t", "1").hex() == identity_of("b", "t1", "").hex()
    False
    """
    bank, token, number = bank_id.encode(), card_token.encode(), transaction_id.encode()
    lengths = _LENGTHS.pack(len(bank), len(token), len(number))
    return Identity(hashlib.sha256(lengths + bank + token + number).digest()[:IDENTITY_BYTES])


def digest_of(transaction: Transaction) -> Digest:
    """Return the SHA-256 digest over what must not change between two copies of a transaction.

    A fixed listing, independent of the encoding: bank, id, card token, kind, amount, currency,
    merchant, terminal, event time.

    >>> len(digest_of(Transaction(bank_id="b", transaction_id="1", card_token="t")))
    32
    """
    listing = "\x1f".join(
        (
            transaction.bank_id,
            transaction.transaction_id,
            transaction.card_token,
            str(transaction.kind),
            str(transaction.amount_minor),
            transaction.currency,
            transaction.merchant_id,
            transaction.terminal_id,
            str(transaction.event_time_ms),
        )
    )
    return Digest(hashlib.sha256(listing.encode()).digest())


def decision_id_of(identity: Identity) -> str:
    """Return the decision id of an identity, 32 hexadecimal digits.

    >>> decision_id_of(Identity(bytes(16))) == "0" * 32
    True
    """
    return identity.hex()


def alert_id_of(identity: Identity) -> str:
    """Return the alert id of an identity, 32 hexadecimal digits.

    >>> len(alert_id_of(Identity(bytes(16))))
    32
    """
    return hashlib.sha256(b"alert" + identity).digest()[:IDENTITY_BYTES].hex()
