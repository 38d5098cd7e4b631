"""What single fields can hold. Each check is a few hundred nanoseconds: readers pay it a record."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

from fraudstream.errors import InvalidTransaction
from fraudstream.names import MAX_NAME, canonical_address, canonical_name, is_canonical_name
from fraudstream.transaction.card_token import CARD_TOKEN
from fraudstream.transaction.event_time import FUTURE_LONGEST_MS, TimeBounds, is_epoch_ms
from fraudstream.transaction.limits import BANK, TIMES_MS

# What a door may let an event be ahead of its clock, and what two clocks of ours may differ.
AHEAD_MS: Final = FUTURE_LONGEST_MS + TimeBounds().future_ms
MAX_PARTITION: Final = 1_000_000
_HEX_32: Final = re.compile(r"[0-9a-f]{32}")
_LONGEST_WORD: Final = 256
_LONGEST_TEXT: Final = 1_024


def is_bank(text: str) -> bool:
    """Return whether a text is the id of a bank.

    >>> is_bank("bank-north"), is_bank("")
    (True, False)
    """
    return BANK.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """Return whether a text can be a bank's own id of a transaction.

    >>> is_number("t-1"), is_number(" t")
    (True, False)
    """
    is_plain = 0 < len(text) <= MAX_NAME and text.isascii() and text.isprintable()
    return is_plain and text[0] != " " and text[-1] != " "


def is_token_of(token: str, bank_id: str) -> bool:
    """Return whether a text is a card token of a bank.

    >>> is_token_of("b.k1." + "0" * 32, "b"), is_token_of("b.k1." + "0" * 32, "c")
    (True, False)
    """
    form = CARD_TOKEN.fullmatch(token)
    return form is not None and form.group(1) == bank_id


def is_name(text: str) -> bool:
    """Return whether a text is empty, or an id or name in its one spelling.

    >>> is_name("SHOP01"), is_name("SHOP01 ")
    (True, False)
    """
    return is_canonical_name(text) or (has_spelling(text) and canonical_name("", text) == text)


def has_spelling(text: str) -> bool:
    """Return whether a text is empty, or an id or name that can be brought into its one spelling.

    >>> has_spelling("SHOP01 "), has_spelling("a" * 65)
    (True, False)
    """
    try:
        canonical_name("", text)
    except InvalidTransaction:
        return False
    return True


def is_address(text: str) -> bool:
    """Return whether a text is empty, or an address in its one spelling.

    >>> is_address("203.0.113.7"), is_address("::FFFF:203.0.113.7")
    (True, False)
    """
    if not text:
        return True
    try:
        return canonical_address(text) == text
    except ValueError:
        return False


def is_word(text: str) -> bool:
    """Return whether a text is a name of ours: hash, version, code, processor.

    >>> is_word("LSTM-1"), is_word("a" * 257)
    (True, False)
    """
    return len(text) <= _LONGEST_WORD and text.isascii() and (not text or text.isprintable())


def is_text(text: str) -> bool:
    r"""Return whether a text can be the words of a reason.

    >>> is_text("A new device"), is_text("a\0")
    (True, False)
    """
    return len(text) <= _LONGEST_TEXT and (not text or text.isprintable())


def is_hex_32(text: str) -> bool:
    """Return whether a text is 32 hexadecimal digits.

    >>> is_hex_32("0" * 32), is_hex_32("zz")
    (True, False)
    """
    return _HEX_32.fullmatch(text) is not None


def is_probability(number: float) -> bool:
    """Return whether a number is finite and from 0 to 1.

    >>> is_probability(0.5), is_probability(float("nan"))
    (True, False)
    """
    return 0.0 <= number <= 1.0


def are_finite(numbers: Iterable[float]) -> bool:
    """Return whether all numbers are finite.

    >>> are_finite([0.5]), are_finite([float("inf")])
    (True, False)
    """
    return all(map(math.isfinite, numbers))


def is_event_ms(moment: int, appended_ms: int) -> bool:
    """Return whether a time of this century is no further ahead of the broker's than a door allows.

    >>> is_event_ms(1_700_000_000_000, 1_700_000_000_000), is_event_ms(7, 1_700_000_000_000)
    (True, False)
    """
    return is_epoch_ms(moment) and moment <= appended_ms + AHEAD_MS


def is_zero_or_ms(moment: int) -> bool:
    """Return whether a number is 0 or a time of this century, epoch milliseconds.

    >>> is_zero_or_ms(0), is_zero_or_ms(-1)
    (True, False)
    """
    return not moment or is_epoch_ms(moment)


def is_us(moment: int) -> bool:
    """Return whether a number is 0 or a time before 2100, epoch microseconds.

    >>> is_us(0), is_us(-1)
    (True, False)
    """
    return 0 <= moment < 1_000 * TIMES_MS.stop


def first_fault(checks: Iterable[tuple[bool, str]]) -> str:
    """Return the first name whose check does not hold, empty for none.

    >>> first_fault([(True, "a"), (False, "b")])
    'b'
    """
    for holds, name in checks:
        if not holds:
            return name
    return ""
