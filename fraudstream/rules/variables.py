"""What a condition may speak of: the transaction, the features, the score and the lists."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.transaction.json_form import ENUM_WORDS

Value = str | int | float | bool

SCORE: Final = "score"
# Of each namespace the names, with a value of the right type to try conditions on. An absent text
# is empty. The sample is nobody's: no number in it is a card's.
TRANSACTION_SAMPLE: Final[dict[str, Value]] = {
    "bank_id": "bank",
    "card_token": "bank.k1." + "0" * 32,
    "kind": "purchase",
    "customer_id": "customer-1",
    "merchant_id": "merchant-1",
    "terminal_id": "terminal-1",
    "mcc": "5411",
    "amount_minor": 1_250,
    "currency": "EUR",
    "amount_reference_minor": 1_250,
    "event_time_ms": 1_767_571_200_000,
    "utc_offset_minutes": 60,
    "channel": "pos",
    "entry_mode": "chip",
    "country": "DE",
    "device_id": "device-1",
    "ip": "192.0.2.1",
}
# Fields whose values are words of an enum; unset is the empty text.
WORDS_OF: Final[dict[str, frozenset[str]]] = {
    field: frozenset(words.values()) | {""} for field, words in ENUM_WORDS.items()
}
_FEATURE_SAMPLE: Final = 1.5


def samples_of(list_names: frozenset[str]) -> dict[str, dict[str, Value]]:
    """Return sample values by name, for each namespace.

    >>> sorted(samples_of(frozenset({"mules"})))
    ['features', 'lists', 'transaction']
    """
    return {
        "transaction": TRANSACTION_SAMPLE,
        "features": dict.fromkeys(FEATURE_NAMES, _FEATURE_SAMPLE),
        "lists": dict.fromkeys(sorted(list_names), False),
    }


def nearest(name: str, known: list[str]) -> str:
    """Return a hint at the known name that is most like a wrong one.

    >>> nearest("amount_mino", ["amount_minor", "mcc"])
    'did you mean amount_minor?'
    >>> nearest("zzz", ["mcc"])
    'known are mcc'
    """
    found = get_close_matches(name, known, n=1, cutoff=0.6)
    if found:
        return f"did you mean {found[0]}?"
    return f"known are {', '.join(known[:20])}" if known else "there are none"
