"""One spelling for each id, name, address and enum, so that what different systems write meets.

Transactions at both doors, labels, rule lists and offline rows go through here.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from fraudstream.errors import InvalidTransaction
from fraudstream.reject_reasons import RejectReason

MAX_NAME: Final = 64
MAX_NAME_BYTES: Final = 128
# Parsing one takes 3 µs, and a card's purchases come from few.
_ADDRESSES: Final = 1 << 14


def canonical_name(field: str, text: str) -> str:
    r"""Return an id or name trimmed, in normal form (NFKC), without marks that only change a look.

    Fixed-length fields come padded with blanks; a name of blanks alone is missing.

    Args:
        field: What it is the content of, for the error.
        text: As the sender wrote it.

    Raises:
        InvalidTransaction: It is too long, or holds a control character.

    >>> canonical_name("merchant_id", "SHOP01      "), canonical_name("merchant_id", "S\u200bHOP")
    ('SHOP01', 'SHOP')
    """
    is_plain = text.isascii() and text.isprintable()
    folded = text.strip() if is_plain else _folded(field, text)
    if len(folded) > MAX_NAME or len(folded.encode()) > MAX_NAME_BYTES:
        msg = f"{field}: over {MAX_NAME} characters or {MAX_NAME_BYTES} bytes"
        raise InvalidTransaction(RejectReason.FIELD_TOO_LONG, msg)
    return folded


def is_canonical_name(text: str) -> bool:
    """Return whether `canonical_name` is sure to leave a text as it is; False where it must look.

    >>> is_canonical_name("SHOP01"), is_canonical_name("SHOP01 ")
    (True, False)
    """
    return not text or (
        len(text) <= MAX_NAME
        and text.isascii()
        and text.isprintable()
        and text[0] != " "
        and text[-1] != " "
    )


def _folded(field: str, text: str) -> str:
    if len(text) > 4 * MAX_NAME:
        raise InvalidTransaction(RejectReason.FIELD_TOO_LONG, f"{field}: over {MAX_NAME}")
    if any(unicodedata.category(mark) == "Cc" for mark in text):
        reason = RejectReason.ENCODING if "\0" in text else RejectReason.CONTROL_CHARACTER
        raise InvalidTransaction(reason, f"{field}: a control character")
    # A mark that is taken away may have kept two others from becoming one.
    shown = (mark for mark in text if unicodedata.category(mark) != "Cf")
    return unicodedata.normalize("NFKC", "".join(shown)).strip()


@lru_cache(maxsize=_ADDRESSES)
def canonical_address(text: str) -> str:
    """Return an address as RFC 5952 writes it; an IPv4 address inside IPv6 (::ffff:) as IPv4.

    Raises:
        ValueError: It is no address, or holds a zone id, which only its own machine knows.

    >>> canonical_address("2001:DB8:0:0::1"), canonical_address("::ffff:203.0.113.7")
    ('2001:db8::1', '203.0.113.7')
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError("a zone id")
        address = address.ipv4_mapped or address
    return str(address)


def word_of(enum: EnumTypeWrapper, number: int) -> str:
    """Return the short name of an enum's number.

    >>> from fraudstream.v1.decision_pb2 import Action
    >>> word_of(Action, Action.ACTION_APPROVE)
    'approve'
    """
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return enum.Name(number).removeprefix(prefix).lower()


def words_of(enum: EnumTypeWrapper) -> dict[int, str]:
    """Return the short names of an enum by number, without the unspecified one.

    >>> from fraudstream.v1.label_pb2 import Disposition
    >>> words_of(Disposition)
    {1: 'confirmed_fraud', 2: 'genuine', 3: 'undetermined'}
    """
    return {number: word_of(enum, number) for number in enum.values() if number}
