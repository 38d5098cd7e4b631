"""Card data in other codes: Base64 and hexadecimal in a text, EBCDIC and packed digits in bytes."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Final

from fraudstream.card_data.numbers import is_card_number

# Thirteen digits take 18 characters of Base64, and 26 of hexadecimal.
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{18,}+")
_PAIRS: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:0[xX])?([0-9A-Fa-f]{26,}+|(?:[0-9A-Fa-f]{2}[ :,-]?){13,}+)"
)
# Three digits in a row at a group of four characters, in ASCII and in EBCDIC.
_CODED_DIGITS: Final = re.compile(
    r"[MNO][DTjz][AEIMQUYcgk][w-z0-5]|[89+-][Pfv/_][DHLPTXbfjn][w-z0-5]"
)
# Four digits in hexadecimal, of ASCII or EBCDIC, or the D of a packed track between two pairs. It
# begins with one class of characters, so that the search passes over all others at once.
_HEX_CLUE: Final = re.compile(
    r"[3fF :,-](?:(?<=3)[0-9][ :,-]?3[0-9][ :,-]?3[0-9][ :,-]?3[0-9]"
    r"|(?<=[fF])[0-9](?:[ :,-]?[fF][0-9]){3}|(?<=[ :,-])[dD][0-9][ :,-][0-9])"
)
_OPAQUE: Final = re.compile(r"[0-9A-Fa-f-]+")
_URL_SAFE: Final = str.maketrans("-_", "+/")
_GROUP: Final = 4
_DIGITS_LEAST: Final = 13
_NOT_ASCII_DIGITS: Final = bytes(set(range(256)) - set(b"0123456789"))
_NOT_EBCDIC_DIGITS: Final = bytes(set(range(256)) - set(range(0xF0, 0xFA)))
_CONTROLS: Final = bytes(set(range(32)) - set(b"\t\n\r"))
# A packed number of 16 digits at a byte's edge, or one of 15 or 19 filled up by F.
_PACKED: Final = re.compile(r"(?=([2-9][0-9]{15}))|(?=([2-9][0-9]{14}|[2-9][0-9]{18})f)")
_PACKED_TRACK: Final = re.compile(r"[0-9]{13}d[0-9]{7}")
_CANDIDATES: Final = 1_000


def decoded_words(text: str) -> Iterator[bytes]:
    """Return what the words of a text mean in Base64 and hexadecimal, where that may be digits.

    >>> list(decoded_words("NDAwMDAwMDAwMDAwMDAwMg=="))
    [b'4000000000000002']
    """
    for match in _BASE64.finditer(text):
        word = match.group()
        # Numbers, digests and UUIDs are no Base64.
        if _OPAQUE.fullmatch(word) is None:
            yield from _of_base64(word)
    if _HEX_CLUE.search(text) is None:
        return
    for match in _PAIRS.finditer(text):
        pairs = re.sub("[^0-9A-Fa-f]", "", match.group(1))
        value = bytes.fromhex(pairs[: len(pairs) & ~1])
        if is_of_digits(value) or _PACKED_TRACK.search(value.hex()):
            yield value


def _of_base64(word: str) -> Iterator[bytes]:
    coded = _CODED_DIGITS.search(word)
    starts = {0, coded.start() % _GROUP} if coded else {0}
    for start in starts:
        whole = word[start : start + (len(word) - start) // _GROUP * _GROUP]
        rest = word[start + len(whole) :]
        if len(rest) > 1:
            whole += rest + "=" * (_GROUP - len(rest))
        value = base64.b64decode(whole.translate(_URL_SAFE))
        is_text = coded or value.isascii()
        if is_text or is_of_digits(value) or _PACKED_TRACK.search(value.hex()):
            yield value


def is_of_digits(value: bytes) -> bool:
    """Return whether bytes hold as many digits as a card number, in ASCII or EBCDIC.

    >>> is_of_digits(b"4" * 13), is_of_digits(b"4" * 12)
    (True, False)
    """
    return (
        len(value.translate(None, _NOT_ASCII_DIGITS)) >= _DIGITS_LEAST
        or len(value.translate(None, _NOT_EBCDIC_DIGITS)) >= _DIGITS_LEAST
    )


def texts_of(value: bytes) -> Iterator[str]:
    r"""Return the texts that bytes may be: UTF-8 or Latin-1 without NULs, and EBCDIC.

    >>> list(texts_of("ab".encode("utf-16-le")))
    ['ab']
    """
    if value[:2] in (b"\xff\xfe", b"\xfe\xff"):
        yield value.decode("utf-16", "replace")
    # UTF-16 and UTF-32 of plain text are the text with NULs between.
    bare = value.replace(b"\0", b"")
    try:
        yield bare.decode()
    except UnicodeDecodeError:
        yield bare.decode("latin-1")
    if len(value.translate(None, _NOT_EBCDIC_DIGITS)) >= _DIGITS_LEAST:
        yield value.decode("cp037")


def is_binary(value: bytes) -> bool:
    r"""Return whether bytes are no text: not UTF-8, or with control characters.

    >>> is_binary(b"a\tb"), is_binary(b"\x49\x88"), is_binary(b"\x41\x11")
    (False, True, True)
    """
    if value.isascii():
        return len(value) != len(value.translate(None, _CONTROLS))
    try:
        value.decode()
    except UnicodeDecodeError:
        return True
    return len(value) != len(value.translate(None, _CONTROLS))


def holds_packed_number(value: bytes) -> bool:
    """Return whether bytes hold a card number in packed digits (BCD), two in a byte.

    >>> holds_packed_number(bytes.fromhex("5a08" + "4" + "0" * 14 + "2"))
    True
    """
    candidates = 0
    for match in _PACKED.finditer(value.hex()):
        if match.start() % 2:
            continue
        candidates += 1
        if is_card_number(match.group(1) or match.group(2)) or candidates > _CANDIDATES:
            return True
    return False
