"""What ingest refuses is refused offline too: the stream never sees it, so no model learns from it.

Values are looked at once for each distinct one of a column. Rows of Kafka and of the archive have
passed ingest already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraudstream.card_data.detector import CardData, kind_of
from fraudstream.errors import InvalidSettings
from fraudstream.transaction.iso_codes import (
    COUNTRIES,
    CURRENCY_EXPONENTS,
    country_fault,
    currency_fault,
)
from fraudstream.transaction.limits import BANK, TRANSACTION_ID, VERIFICATION
from training.offline.names import Distinct
from training.offline.source.checks import Columns
from training.offline.work import Records

_NAMES: Final = ("customer_id", "merchant_id", "terminal_id", "device_id")
_IDS: Final = ("card_token", "transaction_id", *_NAMES)
# Of numbers drawn at random one in ten has a right check digit, and fewer an issuer's range.
_BY_CHANCE: Final = 0.1
# What cannot hold card data is passed over in C: too few digits in a row, and none in disguise.
_MAY_HOLD: Final = (
    r"[0-9](?:[^0-9A-Za-z]*[xX]?[^0-9A-Za-z]*[0-9]){11}|[^ -~]|[\\%&]"
    r"|[MNO][DTjz][AEIMQUYcgk][w-z0-5]|(?i:cv[vc]|pin)"
)
_DEVIATIONS: Final = 5.0


def check_columns(columns: Columns) -> None:
    """Check ids and codes, each column by itself; names and addresses are checked where spelled.

    Raises:
        InvalidSettings: A value is not one that ingest takes, or a column holds card numbers.
    """
    _refuse_numbers(columns)
    _check_ids(columns)
    _check_code(columns, "country", COUNTRIES.__contains__, country_fault)
    _check_code(columns, "currency", CURRENCY_EXPONENTS.__contains__, currency_fault)


def check_rows(columns: Columns, packed: Records) -> None:
    """Check what needs more than one column.

    Raises:
        InvalidSettings: A purchase of nothing, or a label that arrived before its transaction.
    """
    rows = packed["row"]
    amount = "amount_minor" if columns.has("amount_minor") else "amount_reference_minor"
    is_nothing = (rows["amount"] == 0) & (rows["kind"] != int(VERIFICATION))
    columns.refuse(amount, is_nothing, "an amount over 0, but for a verification")
    is_early = (packed["label_arrival_ms"] >= 0) & (packed["label_arrival_ms"] < rows["event_ms"])
    columns.refuse("label_arrival_time_ms", is_early, "a time after the transaction's")


def _check_ids(columns: Columns) -> None:
    forms = (
        ("bank_id", BANK, "1 to 32 of A-Z a-z 0-9 _ -"),
        ("transaction_id", TRANSACTION_ID, "1 to 64 printable ASCII characters, no space outside"),
    )
    for name, form, expected in forms:
        if columns.has(name):
            found = columns.texts(name)
            fits = pc.or_(pc.equal(found, ""), pc.match_substring_regex(found, f"^{form.pattern}$"))
            columns.refuse(name, ~fits.to_numpy(zero_copy_only=False), expected)


def _check_code(
    columns: Columns, name: str, is_known: Callable[[object], bool], fault: Callable[[str], str]
) -> None:
    if not columns.has(name):
        return
    distinct = Distinct.of(columns.texts(name))
    bad = np.array([bool(text) and not is_known(text) for text in distinct.texts], np.bool_)
    if bad.any():
        why = fault(distinct.texts[int(np.argmax(bad))]).removeprefix(f"{name}: ")
        columns.refuse(name, _of_rows(distinct, bad), why.removeprefix("expected "))


def _of_rows(distinct: Distinct, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask[distinct.of_row] if len(mask) else np.zeros(0, np.bool_)


def _refuse_numbers(columns: Columns) -> None:
    """Refuse a column of card numbers, or one with a track.

    One long number in ten looks like a card's by chance, so a column is judged as a whole.
    """
    for name in _IDS:
        if not columns.has(name):
            continue
        texts = columns.texts(name)
        found = Distinct.of(pc.filter(texts, pc.match_substring_regex(texts, _MAY_HOLD))).texts
        kinds = {text: kind_of(text) for text in found}
        numbers = [text for text in found if kinds[text] is CardData.PAN]
        tracks = [text for text in found if kinds[text] is CardData.SAD]
        if tracks or _are_too_many(len(numbers), len(found)):
            where = (tracks or numbers)[0]
            index = pc.index(texts, where).as_py()
            what = "track data" if tracks else f"{len(numbers)} card numbers among {len(found)} ids"
            msg = (
                f"{columns.name}: column {columns.source_of(name)}, row"
                f" {columns.row_of_first + index} (the first is 0): expected ids that are no card"
                f" numbers, found {what}; put a token in the place of each, nothing was written"
            )
            raise InvalidSettings(msg)


def _are_too_many(numbers: int, of: int) -> bool:
    """Return whether chance explains so many card numbers among long ones.

    >>> _are_too_many(1, 1), _are_too_many(12, 100), _are_too_many(100, 100)
    (True, False, True)
    """
    by_chance = _BY_CHANCE * of + _DEVIATIONS * (_BY_CHANCE * (1 - _BY_CHANCE) * of) ** 0.5
    return numbers > 0 and (numbers > by_chance or 2 * numbers > of)
