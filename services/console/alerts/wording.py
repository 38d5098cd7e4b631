"""Amounts, times and codes in the words that an analyst reads. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from fraudstream.names import words_of
from fraudstream.transaction.iso_codes import CURRENCY_EXPONENTS
from fraudstream.v1 import decision_pb2, transaction_pb2

_MINUTE_S: Final = 60
_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400
_TOKEN_TAIL: Final = 8
_ACTIONS: Final[dict[int, str]] = words_of(decision_pb2.Action)
_CHANNELS: Final[dict[int, str]] = {
    transaction_pb2.CHANNEL_POS: "POS",
    transaction_pb2.CHANNEL_ECOMMERCE: "e-commerce",
    transaction_pb2.CHANNEL_ATM: "ATM",
    transaction_pb2.CHANNEL_MOTO: "mail or phone",
    transaction_pb2.CHANNEL_RECURRING: "recurring",
}
_KINDS: Final[dict[int, str]] = {
    transaction_pb2.TRANSACTION_KIND_PURCHASE: "purchase",
    transaction_pb2.TRANSACTION_KIND_REFUND: "refund",
    transaction_pb2.TRANSACTION_KIND_REVERSAL: "reversal",
    transaction_pb2.TRANSACTION_KIND_VERIFICATION: "verification",
}
_ENTRY_MODES: Final[dict[int, str]] = {
    transaction_pb2.ENTRY_MODE_CHIP: "chip",
    transaction_pb2.ENTRY_MODE_CONTACTLESS: "contactless",
    transaction_pb2.ENTRY_MODE_MAGSTRIPE: "magnetic stripe",
    transaction_pb2.ENTRY_MODE_MANUAL: "typed in",
    transaction_pb2.ENTRY_MODE_STORED: "stored card",
}


def format_minor(amount_minor: int, currency: str) -> str:
    r"""Return an amount with its decimals, a thin space between thousands, and its currency.

    An unknown currency is shown in minor units and says so.

    >>> format_minor(-1234567, "EUR").replace("\u2009", " ")
    '-12 345.67 EUR'
    >>> format_minor(500, "JPY")
    '500 JPY'
    """
    exponent = CURRENCY_EXPONENTS.get(currency)
    if exponent is None:
        return f"{amount_minor} minor {currency}"
    sign = "-" if amount_minor < 0 else ""
    whole, rest = divmod(abs(amount_minor), 10**exponent)
    decimals = f".{rest:0{exponent}d}" if exponent else ""
    return f"{sign}{whole:,}{decimals} {currency}".replace(",", "\u2009")


def format_span(seconds: int) -> str:
    """Return a length of time in its two largest units.

    >>> format_span(59), format_span(3_725), format_span(200_000)
    ('59 s', '1 h 2 min', '2 d 7 h')
    """
    if seconds < _MINUTE_S:
        return f"{max(seconds, 0)} s"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S} min"
    if seconds < _DAY_S:
        hours, rest = divmod(seconds, _HOUR_S)
        return f"{hours} h {rest // _MINUTE_S} min"
    days, rest = divmod(seconds, _DAY_S)
    return f"{days} d {rest // _HOUR_S} h"


def format_time(epoch_ms: int) -> str:
    """Return a time in UTC, to the second.

    >>> format_time(0)
    '1970-01-01 00:00:00'
    """
    return datetime.fromtimestamp(epoch_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def short_token(card_token: str) -> str:
    """Return the end of a card token, enough to tell the cards of a queue apart.

    >>> short_token("bank1.k1.0123456789abcdef")
    '…89abcdef'
    """
    return f"…{card_token[-_TOKEN_TAIL:]}"


def action_word(action: int) -> str:
    """Return the name of an action; one that this console does not know yet keeps its number.

    >>> action_word(3), action_word(99)
    ('review', 'action 99')
    """
    return _ACTIONS.get(action, f"action {action}")


def channel_word(channel: int) -> str:
    """Return the name of a channel.

    >>> channel_word(2)
    'e-commerce'
    """
    return _CHANNELS.get(channel, "unknown")


def kind_word(kind: int) -> str:
    """Return the name of a kind of transaction.

    >>> kind_word(1)
    'purchase'
    """
    return _KINDS.get(kind, "unknown")


def entry_mode_word(entry_mode: int) -> str:
    """Return how the card was read.

    >>> entry_mode_word(2)
    'contactless'
    """
    return _ENTRY_MODES.get(entry_mode, "unknown")
