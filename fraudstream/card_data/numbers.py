"""Card numbers in a text: an issuer's range, a length that it issues, and a right check digit.

A number stands by itself: marks between its digits do not count, but digits before or after it
make it another number. Which forms of ids pass by chance, and how many: ADR-0022.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

# ISO/IEC 7812 issuer ranges of the networks in use, with the lengths of cards in circulation.
# Numbers of 12 digits (an old Maestro) are left out, because a retrieval reference number of 2026
# has 12 digits and begins with 6. So are 13 digits from 43 or 49: mobile numbers of two countries.
_ISSUED: Final = re.compile(
    r"4(?:[0-25-8]\d{11}|\d{15}|\d{18})|5[1-5]\d{14}"
    r"|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-59]|[689]\d)\d{11}(?:\d\d)?|35(?:2[89]|[3-8]\d)\d{12,15}"
    r"|(?:62|81|82)\d{14,17}|(?:6011|64[4-9]\d|65\d\d)\d{12,15}|220[0-4]\d{12,15}"
    r"|(?:5[06-8]|6\d)\d{14}(?:\d{2,3})?|6703\d{13}"
    r"|(?:2205|8600|9051|9112|9682|970[0-9]|9792|9860)\d{12}",
    re.ASCII,
)
_SHORTEST: Final = 13
_LONGEST: Final = 19
_GROUP: Final = re.compile(r"[0-9]+")
# Thirteen digits or more with any marks between them; an x alone is a mark too.
_MARKS: Final = r"[\W_]*+(?:[xX][\W_]*+)?+"
CHAIN: Final = re.compile(
    rf"(?:[0-9]{{13,}}+|[0-9](?<![0-9][0-9])(?:{_MARKS}[0-9]){{12}})(?:{_MARKS}[0-9]++)*+"
)
# As many in the form that is searched for fastest: it begins with one class of characters.
LONG: Final = re.compile(rf"[0-9](?<![0-9][0-9])(?:{_MARKS}[0-9]){{12}}")
# A group of digits that may begin a card number; zeros may fill it up.
_START: Final = re.compile(r"(?<![0-9])0*+(?=[2-9])")
# Dates, times, UUIDs and digests: their digits are no number. No card number begins as a year of
# two centuries does; a digest holds three different letters, a UUID (RFC 9562) two.
_NO_NUMBER: Final = re.compile(
    r"(?<![0-9])(?:19|20)[0-9]{2}([-/.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12][0-9]|3[01])"
    r"(?:[T ]?(?:[01][0-9]|2[0-3]):?[0-5][0-9](?::?[0-5][0-9](?:[.,][0-9]{1,9})?)?)?(?![0-9])"
    r"|(?<![0-9:])(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?![0-9:])"
    r"|(?<![0-9A-Za-z])(?P<hex>[0-9A-Fa-f]{16,}+"
    r"|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[1-8][0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12})"
    r"(?![0-9A-Za-z])"
)
_LETTERS: Final = 3
_LETTERS_OF_UUID: Final = 2
BREAK: Final = "\nz\n"
"""Stands between two texts that are searched as one: no number reaches over it."""

# Groups that people write: up to six of two digits and more, else all of one size but the last.
_GROUPS_OF_ANY_SIZE: Final = 6
# A longer group is another number beside something else. So is one of twelve digits that is a
# retrieval reference number: it begins as those of 2026 do, or tells a day of the year and an hour.
_GROUP_LONGEST: Final = 12
_REFERENCE: Final = re.compile(
    r"6[0-9]{11}|[0-9](?:00[1-9]|0[1-9][0-9]|[12][0-9]{2}|3[0-5][0-9]|36[0-6])(?:[01][0-9]|2[0-3])[0-9]{6}"
)
# As programs print a number that they took for a fraction: 4.000000000000002E15.
_SCIENTIFIC: Final = re.compile(r"(?<![0-9.])([2-9])\.([0-9]{5,18})[eE]\+?(1[2-8])(?![0-9])")
# Letters of a hexadecimal word that stand before or behind one number, such as those of a currency.
_FRAMED: Final = re.compile(r"[A-Fa-f]*[0-9]{13,19}[A-Fa-f]*")
# YYMMDDhhmmss of the years that begin as a range of cards does, with a counter behind it.
_TIME_FIRST: Final = re.compile(
    r"2[2-7](?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:[01][0-9]|2[0-3])(?:[0-5][0-9]){2}"
)
# Random numbers that begin as a card's hold one within some dozens: who sends a thousand without
# one has made them, and the search ends there.
_STARTS_MOST: Final = 1_000
# A number with its expiry, and with the verification value too: 16 digits, YYMM or MMYY, 3 digits.
_EXPIRY: Final = re.compile(
    r"([0-9]{16})(?:[2-4][0-9](?:0[1-9]|1[0-2])|(?:0[1-9]|1[0-2])[2-4][0-9])(?:[0-9]{3})?"
)
# A digit at an even position from the right counts double, digits summed (Luhn, ISO/IEC 7812-1).
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_PLAIN: Final = bytes.maketrans(b"0123456789", bytes(range(10)))


def has_luhn_check(digits: str) -> bool:
    """Return whether a string of ASCII digits ends in its check digit.

    >>> has_luhn_check("79927398713"), has_luhn_check("79927398710")
    (True, False)
    """
    indices = digits.encode()[::-1]
    total = sum(indices[0::2].translate(_PLAIN)) + sum(indices[1::2].translate(_DOUBLED))
    return total % 10 == 0


def is_card_number(digits: str) -> bool:
    """Return whether ASCII digits, all of them, are a card number: a known range and a check digit.

    >>> is_card_number("4" + "0" * 14 + "2"), is_card_number("4" + "0" * 15)
    (True, False)
    """
    return (
        _ISSUED.fullmatch(digits) is not None
        and has_luhn_check(digits)
        and _TIME_FIRST.match(digits) is None
    )


def holds_own_number(text: str, pan: str) -> bool:
    """Return whether an id of folded digits holds this very card number, with any marks in it.

    >>> pan = "4" + "0" * 14 + "2"
    >>> holds_own_number(f"c-{pan[:8]}-{pan[8:]}99", pan)
    True
    """
    return pan in re.sub("[^0-9]", "", text)


def holds_number(text: str) -> bool:
    """Return whether a text of folded digits holds a card number, whatever marks divide it.

    True also where a thousand numbers begin as a card's does and none is one.

    >>> holds_number("order 4000" + " 0000" * 3)
    False
    >>> holds_number("order 4000" + " - 0000" * 2 + "x0002")
    True
    """
    # What is blanked takes numbers away and gives none: it is looked for where there is one.
    text = _SCIENTIFIC.sub(_written_out, text)
    return _has_number(text) and _has_number(_NO_NUMBER.sub(_unnumbered, text))


def _written_out(match: re.Match[str]) -> str:
    whole, fraction, indices = match.groups()
    return whole + fraction.ljust(int(indices), "0")


def _has_number(text: str) -> bool:
    starts = 0
    for chain in CHAIN.finditer(text):
        digits = chain.group()
        for start in _START.finditer(digits):
            starts += 1
            if starts > _STARTS_MOST or _begins_number(digits, start):
                return True
    return False


def _unnumbered(match: re.Match[str]) -> str:
    word = match.group("hex")
    if word is None:
        return BREAK
    if _FRAMED.fullmatch(word):
        return word
    letters = set(word.lower()) - set("0123456789-")
    least = _LETTERS_OF_UUID if "-" in word else _LETTERS
    return BREAK if len(letters) >= least else word


def _begins_number(chain: str, start: re.Match[str]) -> bool:
    """Return whether a card number begins here and ends where a group does; 19 steps at most."""
    number, sizes, has_reference = "", [start.end() - start.start()], False
    for group in _GROUP.finditer(chain, start.end()):
        number += group.group()
        sizes.append(len(group.group()))
        has_reference = has_reference or _REFERENCE.fullmatch(group.group()) is not None
        if len(number) > _LONGEST:
            dated = _EXPIRY.fullmatch(number) if len(sizes) == 2 else None
            return dated is not None and is_card_number(dated.group(1))
        if len(number) >= _SHORTEST and is_card_number(number):
            longest = _GROUP_LONGEST - 1 if has_reference else _GROUP_LONGEST
            if _is_written_so(sizes, longest):
                return True
    return False


def _is_written_so(sizes: Sequence[int], longest: int = _GROUP_LONGEST) -> bool:
    """Return whether somebody may divide a card number so.

    Args:
        sizes: Of the zeros in front, and of each group without them.
        longest: Group that is a part of a card number.

    >>> _is_written_so([0] + [1] * 16), _is_written_so([0] + [1, 2] * 5 + [1])
    (True, False)
    >>> _is_written_so([0, 1, 3, 3, 3, 3, 3])
    True
    """
    zeros, first, *others = sizes
    if not others:
        return True
    whole = [zeros + first, *others]
    # From the left, as people write them, or from the right, as thousands are.
    is_even = len(set(whole[:-1])) == 1 or (len(set(whole[1:])) == 1 and whole[0] < whole[1])
    is_short = len(whole) <= _GROUPS_OF_ANY_SIZE and min(whole) > 1
    return (is_even or is_short) and max(whole) <= longest
