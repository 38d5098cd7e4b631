"""What a list can hold, and how its entries are looked up."""

from __future__ import annotations

from enum import StrEnum

from fraudstream.errors import InvalidTransaction
from fraudstream.names import canonical_address, canonical_name
from fraudstream.transaction.card_token import CARD_TOKEN
from fraudstream.transaction.iso_codes import COUNTRIES
from fraudstream.transaction.limits import MCC


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


def entry_key(field: EntryField, value: str) -> str:
    """Return the one spelling of a value, in which transactions have it.

    Raises:
        ValueError: The field never has such a value.

    >>> entry_key(EntryField.IP, "::1") == entry_key(EntryField.IP, "0:0:0:0:0:0:0:1")
    True
    >>> entry_key(EntryField.MERCHANT_ID, "SHOP01   ")
    'SHOP01'
    """
    if field is EntryField.IP:
        address = address_key(value)
        if not address:
            msg = "entries of ip: expected IPv4 or IPv6 addresses"
            raise ValueError(msg)
        return address
    is_fit = {
        EntryField.CARD_TOKEN: CARD_TOKEN.fullmatch(value) is not None,
        EntryField.MCC: MCC.fullmatch(value) is not None,
        EntryField.COUNTRY: value in COUNTRIES,
    }.get(field)
    if is_fit is None:
        try:
            value = canonical_name(field, value)
        except InvalidTransaction:
            value = ""
        is_fit = value != ""
    if not is_fit:
        msg = f"entries of {field}: not all are values that a {field} can have"
        raise ValueError(msg)
    return value


def address_key(text: str) -> str:
    """Return the one spelling of an address; nothing where it is no address.

    >>> address_key("::ffff:192.0.2.1"), address_key("here")
    ('192.0.2.1', '')
    """
    try:
        return canonical_address(text)
    except ValueError:
        return ""
