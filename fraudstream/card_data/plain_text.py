r"""A text as a person reads it: digits of every script as ASCII ones, escapes undone.

Each step is one pass in C over the text, whatever stands in it.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import Final
from urllib.parse import unquote

# A text may be escaped again by each program that it passes: a JSON text in a form in a JSON text.
_ROUNDS: Final = 3
_ESCAPE: Final = re.compile(
    r"(?<!\\)\\++(?:u([0-9a-fA-F]{4})|(?:u\{|U)([0-9a-fA-F]{1,8})\}?|x([0-9a-fA-F]{2})|[nrtbfv0])"
    r"|&#(?:[xX]([0-9a-fA-F]{1,6})|0*+([0-9]{1,7}));?|&[A-Za-z]{2,31};"
)
_PERCENT: Final = re.compile(r"%[0-9a-fA-F]{2}")


# Letters that show nothing: the fillers of Hangul.
_FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0")


def _stands_for(character: str) -> str:
    """Return the digit or the mark between digits that a character stands for; else itself.

    Marks are the signs that are put over others, which Unicode sorts at a cost that grows with the
    square of how many follow one another, and letters that look like dashes and dots.
    """
    value = unicodedata.numeric(character, -1.0)
    if value in range(10):
        return str(int(value))
    is_mark = character in _FILLERS or unicodedata.category(character) in ("Lm", "Mn", "Mc", "Me")
    is_mark = is_mark and not unicodedata.normalize("NFKC", character).isascii()
    return " " if is_mark else character


# Of every character beside the ASCII ones that is not itself; none of use lies in a higher plane
# than the second.
_MEANT: Final = ((code, _stands_for(chr(code))) for code in range(128, 0x20000))
_DIGITS: Final = {code: meant for code, meant in _MEANT if meant != chr(code)}


def fold_digits(text: str) -> str:
    r"""Return the text with the digits of every script, form and width as ASCII ones.

    >>> fold_digits("\uff14\u0661\u2460\u2074\u56db")
    '41144'
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text.translate(_DIGITS))


def fold_in_place(text: str) -> str:
    r"""Return the text with other scripts' digits as ASCII ones, each character at its index.

    >>> fold_in_place("\uff14\u00a0\u2074")
    '4\xa04'
    """
    return text if text.isascii() else text.translate(_DIGITS)


def unescape(text: str) -> str:
    r"""Undo the escapes of JSON, HTML and addresses; those of a line end or tab become a blank.

    >>> unescape("\\u0034\\n&#52;&nbsp;%34")
    '4 4 4'
    """
    for _ in range(_ROUNDS):
        plain = _ESCAPE.sub(_meant, text) if "\\" in text or "&" in text else text
        if "%" in plain and _PERCENT.search(plain):
            plain = unquote(plain)
        if plain == text:
            break
        text = plain
    return text


def _meant(match: re.Match[str]) -> str:
    json_code, long_code, byte, html_code, html_number = match.groups()
    code = json_code or long_code or byte or html_code
    number = int(code, 16) if code else int(html_number or "32")
    return chr(number) if number <= sys.maxunicode else " "


def readings(text: str) -> tuple[str, ...]:
    r"""Return the text with its digits folded, and again without escapes where it holds some.

    >>> readings("a\\u0034"), readings("a")
    (('a\\u0034', 'a4'), ('a',))
    """
    folded = fold_digits(text)
    if not ("\\" in folded or "&" in folded or "%" in folded):
        return (folded,)
    plain = unescape(folded)
    if plain == folded:
        return (folded,)
    # Two escapes of JSON may be the halves of one character.
    whole = plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return folded, fold_digits(whole)
