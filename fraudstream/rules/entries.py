"""What a list can hold, and how its entries are looked up."""

from __future__ import annotations

import re
import socket
from enum import StrEnum
from typing import Final

from fraudstream.iso_codes import COUNTRIES
from fraudstream.privacy import CARD_TOKEN


class EntryField(StrEnum):
    """The field of a transaction whose value a list names."""

    BANK_ID = "bank_id"
    CARD_TOKEN = "card_token"  # noqa: S105  # the name of a field
    CUSTOMER_ID = "customer_id"
    MERCHANT_ID = "merchant_id"
    TERMINAL_ID = "terminal_id"
    DEVICE_ID = "device_id"
    IP = "ip"
    MCC = "mcc"
    COUNTRY = "country"


_MCC: Final = re.compile(r"[0-9]{4}")
_LONGEST: Final = 64


def entry_key(field: EntryField, value: str) -> str | bytes:
    """Return what is looked up for a value; an address has many spellings and one key.

    Raises:
        ValueError: The field never has such a value.

    >>> entry_key(EntryField.IP, "::1") == entry_key(EntryField.IP, "0:0:0:0:0:0:0:1")
    True
    """
    if field is EntryField.IP:
        packed = packed_address(value)
        if not packed:
            msg = "entries of ip: expected IPv4 or IPv6 addresses"
            raise ValueError(msg)
        return packed
    is_fit = {
        EntryField.CARD_TOKEN: CARD_TOKEN.fullmatch(value) is not None,
        EntryField.MCC: _MCC.fullmatch(value) is not None,
        EntryField.COUNTRY: value in COUNTRIES,
    }.get(field, 0 < len(value) <= _LONGEST and value.isprintable() and value == value.strip())
    if not is_fit:
        msg = f"entries of {field}: not all are values that a {field} can have"
        raise ValueError(msg)
    return value


def packed_address(text: str) -> bytes:
    """Return the bytes of an IPv4 or IPv6 address; none where it is no address.

    >>> packed_address("192.0.2.1").hex(), packed_address("here")
    ('c0000201', b'')
    """
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return b""
