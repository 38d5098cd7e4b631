"""Track data of a magnetic stripe or its image in a chip (ISO/IEC 7813, EMV tag 57)."""

from __future__ import annotations

import re
from typing import Final

from fraudstream.card_data.numbers import is_card_number

# What follows the card number: the separator of track 1, or that of track 2 with an expiry date.
# D stands for = where the track is packed; a month and a service code tell it from a digest's d.
_AFTER: Final = re.compile(r"(?<=[0-9 ])(?:\^|=[0-9]{4}|[Dd](?=[0-9]{2}(?:0[1-9]|1[0-2])[0-9]{3}))")
# The card number read from its end, and the format code of track 1.
_BACKWARDS: Final = re.compile(r" ?((?:[0-9][ -]?){12,18}[0-9])(?: ?([Bb]))?")
_REACH: Final = 42
_PACKED: Final = range(13, 20)


def holds_track(text: str) -> bool:
    """Return whether a text of folded digits holds a track, by its sentinels or by its layout.

    >>> number = "4" + "0" * 14 + "2"
    >>> texts = (f";{number}=3012", f"%B{number}^DOE", f"{number}D3012101")
    >>> [holds_track(text) for text in texts]
    [True, True, True]
    """
    return any(_ends_number(text, match) for match in _AFTER.finditer(text))


def _ends_number(text: str, after: re.Match[str]) -> bool:
    end = after.start()
    before = _BACKWARDS.match(text[max(0, end - _REACH) : end][::-1])
    if before is None:
        return False
    mark = after.group()
    if mark == "^":
        return before.group(2) is not None
    if mark[0] == "=":
        return True
    digits = re.sub("[^0-9]", "", before.group(1))[::-1]
    return any(is_card_number(digits[-length:]) for length in _PACKED if length <= len(digits))
