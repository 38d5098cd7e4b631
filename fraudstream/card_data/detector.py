"""The one detector for card data: what kind a text or bytes hold, and how a text reads masked.

It is asked for everything that enters and may be kept. One pass, windows of fixed size: the cost
grows with the length alone. Budget: 10 µs for the ids of an ordinary record, of which none is long.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

from fraudstream.card_data.encodings import (
    decoded_words,
    holds_packed_number,
    is_binary,
    texts_of,
)
from fraudstream.card_data.numbers import CHAIN, LONG, holds_number, is_card_number
from fraudstream.card_data.plain_text import fold_in_place, readings, unescape
from fraudstream.card_data.sensitive_names import names_sensitive
from fraudstream.card_data.tracks import holds_track


class CardData(IntEnum):
    """What a value holds; the higher, the less of it may be kept."""

    NONE = 0
    PAN = 1
    """A card number: to be sealed or tokenised, never kept in clear (PCI DSS 3.5.1)."""
    SAD = 2
    """A verification value, PIN or track: not to be kept at all (PCI DSS 3.3.1)."""


# Base64 of a text that holds hexadecimal.
_DEPTH: Final = 2
# Twelve digits and more with up to two marks or an x between them.
_LONG_NUMBER: Final = re.compile(r"[0-9](?:(?:[^\w\"':,]{0,2}_?|[xX])[0-9]){11,}")
_CODED_WORD: Final = re.compile(r"[A-Za-z0-9+/_-]{18,}+={0,2}")
_ADDRESSES: Final = 1 << 14
# Addresses of the internet begin with 2 or 3 (2000::/3, RFC 4291).
_GLOBAL: Final = frozenset("23")
_SAME: Final = re.compile(r"(.)\1*|[0-9]*", re.DOTALL)


def kind_of(value: str | bytes) -> CardData:
    """Return what a text or bytes hold.

    >>> number = "4" + "0" * 14 + "2"
    >>> [kind_of(text).name for text in (f"shop-{number}", f";{number}=3012", "order 12")]
    ['PAN', 'SAD', 'NONE']
    >>> kind_of(bytes.fromhex(f"{number}d3012101")).name
    'SAD'
    """
    return _of_bytes(value, _DEPTH) if isinstance(value, bytes) else _of_text(value, _DEPTH)


def _of_text(text: str, depth: int) -> CardData:
    found = CardData.NONE
    for reading in readings(text):
        is_long = LONG.search(reading) is not None
        if (is_long and holds_track(reading)) or names_sensitive(reading):
            return CardData.SAD
        if is_long and not found and holds_number(reading):
            found = CardData.PAN
        if depth:
            for value in decoded_words(reading):
                found = max(found, _of_bytes(value, depth - 1))
                if found is CardData.SAD:
                    return found
    return found


def _of_bytes(value: bytes, depth: int) -> CardData:
    found = max((_of_text(text, depth) for text in texts_of(value)), default=CardData.NONE)
    if found is CardData.SAD or not is_binary(value):
        return found
    if holds_track(value.hex()):
        return CardData.SAD
    # What an id means in Base64 has packed digits by chance.
    is_sent_so = depth == _DEPTH
    return CardData.PAN if found or (is_sent_so and holds_packed_number(value)) else found


@lru_cache(maxsize=_ADDRESSES)
def is_card_in_address(address: str) -> bool:
    """Return whether the groups of an IPv6 address are a card number.

    The first group of an address of the internet begins no number where a host follows: a range
    of cards begins with 26 as the addresses of a continent do.

    >>> is_card_in_address("4000:0:0:2::"), is_card_in_address("2001:db8::1")
    (True, False)
    """
    if ":" not in address:
        return False
    try:
        groups = IPv6Address(address).exploded.split(":")
    except ValueError:
        return False
    is_global = address[0] in _GLOBAL and set(groups[4:]) != {"0000"}
    return holds_number(":".join(groups[1:] if is_global else groups))


def is_number_in_digest(digest: str) -> bool:
    """Return whether a digest in hexadecimal is a card number, filled up.

    >>> is_number_in_digest("4" + "0" * 14 + "2" + "a" * 16), is_number_in_digest("0a1b" * 8)
    (True, False)
    """
    for match in re.finditer(r"[0-9]{13,}", digest):
        run, rest = match.group(), digest[: match.start()] + digest[match.end() :]
        if _SAME.fullmatch(rest) and any(
            is_card_number(run[start : start + length])
            for start in range(len(run) - 12)
            for length in range(13, min(19, len(run) - start) + 1)
        ):
            return True
    return False


def mask(text: str) -> str:
    """Return a text without escapes and with every longer number starred out, card or not.

    A number that is divided by three marks or more, or hidden in Base64, goes if it is a card's.

    >>> mask("pan 4000" + " 0000" * 3 + ", amount 1200")
    'pan ****, amount 1200'
    """
    plain = fold_in_place(unescape(text))
    masked = _LONG_NUMBER.sub("****", plain)
    masked = CHAIN.sub(_starred, masked)
    return _CODED_WORD.sub(_starred, masked)


def _starred(match: re.Match[str]) -> str:
    return "****" if kind_of(match.group()) else match.group()
