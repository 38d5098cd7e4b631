"""Names of what may never be kept after authorisation (PCI DSS 3.3.1): CVV, PIN and track fields.

The rule. A name falls into words at capitals and marks. It is one of a card verification value if
it holds `cvv`, `cvc`, `cvn2` or `cav2` anywhere (no other word does), is `cid`, `csc`, `cvd` or
`cvn`, or says `security code` or `card verification`. It is one of a PIN if `pin` is a word of it,
or begins a word that ends in block, data and the like; `spin`, `opinion`, `shipping` and `pinpad`
are other words. It is one of a track if it says `track` with nothing, a number or `data` after it;
`tracking` is another word. A name that says what came of a check, or how the value was entered
(result, present, mode, tries), names no value; a verification value of three or four digits under
such a name counts all the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[0-9]+")
_VERIFICATION: Final = re.compile(
    r"cvv|cvc[0-9]?|cvn2|cav2|(?:card)?security(?:code|number|value)$|cardverification|verificationvalue"
)
_WHOLE_VERIFICATION: Final = frozenset(("cid", "csc", "cvd", "cvn", "cav", "cardcsc", "csccode"))
_PIN: Final = re.compile(
    r"(?:card|clear|customer|enc|encrypted|iso|new|old|online|offline|user|epin)?pins?[0-9]?"
    r"(?:block|code|data|digits|hash|number|num|no|nr|offset|val|value|verificationvalue)?[0-9]?"
)
_PIN_WORDS: Final = frozenset(("pvv", "epb"))
_TRACK: Final = re.compile(
    r"(?:.*[^d])?(?:track(?:[123]|one|two|three)?(?:equivalent)?(?:data|equivalentdata|raw|content)?)"
    r"|.*track[123](?:data|equivalent.*)?|.*mag(?:netic)?stripe(?:data|content|raw)?|msrdata|swipedata"
)
# ISO 8583: track 2, track 3, track 1, PIN data.
_ELEMENT: Final = re.compile(r"(?:de|dataelement|field|bit)0?(?:35|36|45|52)")
_OUTCOMES: Final = frozenset(
    [
        "attempt",
        "attempts",
        "bypass",
        "bypassed",
        "cap",
        "capability",
        "change",
        "changed",
        "check",
        "checked",
        "count",
        "counter",
        "entered",
        "entry",
        "exceeded",
        "fail",
        "failed",
        "failure",
        "flag",
        "format",
        "indicator",
        "ind",
        "is",
        "has",
        "length",
        "limit",
        "match",
        "matched",
        "matches",
        "method",
        "missing",
        "mode",
        "ok",
        "pad",
        "passed",
        "presence",
        "present",
        "provided",
        "reason",
        "remaining",
        "req",
        "required",
        "res",
        "resp",
        "response",
        "result",
        "results",
        "retries",
        "retry",
        "state",
        "status",
        "supported",
        "tries",
        "try",
        "type",
        "valid",
        "validated",
        "validation",
        "verified",
        "verify",
        "was",
    ]
)
_NAME_LONGEST: Final = 64
_SHORT_VALUE: Final = re.compile(r"\s*[0-9]{3,4}\s*")
_NAMES_KEPT: Final = 4_096

# In a text: a JSON name, a name with digits after its mark, and a value with its name before it.
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.){1,64})"\s{0,8}:')
_GIVEN: Final = re.compile(
    r"(?<![\w-])([A-Za-z][\w-]{1,40}+)[\"']?\s{0,4}[:=>]\s{0,4}[\"']?([0-9]{3,12})", re.ASCII
)
_SAID: Final = re.compile(
    r"(?<![\w-])(?:cv[vcn]2?|cav2|cvd|pin)(?:[ _-]?(?:code|no|number|is))?"
    r"[\W_]{1,3}[0-9]{3,4}(?![0-9])",
    re.ASCII | re.IGNORECASE,
)

# What a text cannot be without if one of these matches, in the form that is searched for fastest.
_CLUE: Final = re.compile(
    r"[:=>cCpP](?:(?<=[:=>])\s{0,4}[\"']?[0-9]{3}|[vV]|[aA][vV]|[iI][nN][^A-Za-z])", re.ASCII
)


def is_sensitive_name(name: str, content: object = None) -> bool:
    """Return whether a field's name is one of what must never be kept.

    Args:
        name: In any spelling.
        content: Of the field, where it is known.

    >>> [is_sensitive_name(name) for name in ("cardCvv", "pin_entry_mode", "opinion")]
    [True, False, False]
    >>> is_sensitive_name("cvv_result", "M"), is_sensitive_name("cvv_check", "123")
    (False, True)
    """
    kind, is_outcome = _reading(name[:_NAME_LONGEST])
    if not kind or not is_outcome:
        return bool(kind)
    return kind == "cvv" and _SHORT_VALUE.fullmatch(str(content)) is not None


@lru_cache(maxsize=_NAMES_KEPT)
def _reading(name: str) -> tuple[str, bool]:
    """Return what a name is of (empty: nothing sensitive), and whether it says an outcome."""
    words = [word.lower() for word in _WORDS.findall(name)]
    compact = "".join(words)
    is_outcome = not _OUTCOMES.isdisjoint(words)
    if compact in _WHOLE_VERIFICATION or _VERIFICATION.search(compact):
        return "cvv", is_outcome
    if any(_PIN.fullmatch(word) or word in _PIN_WORDS for word in words) or _PIN.fullmatch(compact):
        return "pin", is_outcome
    if _TRACK.fullmatch(compact) or _ELEMENT.fullmatch(compact):
        return "track", is_outcome
    return "", False


def names_sensitive(text: str) -> bool:
    r"""Return whether a text of any format names a sensitive field and gives its value.

    >>> [names_sensitive(text) for text in ('{"cvv_code": "x"', "cvc2=123", "PIN 1234")]
    [True, True, True]
    """
    if '"' in text and any(is_sensitive_name(name) for name in _QUOTED.findall(text)):
        return True
    if _CLUE.search(text) is None:
        return False
    if _SAID.search(text):
        return True
    return any(is_sensitive_name(name, value) for name, value in _GIVEN.findall(text))
