"""Amounts of a source in reference minor units, converted as ingest converts them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraudstream.archive.columns import AMOUNT_REFERENCE
from fraudstream.errors import InvalidTransaction
from fraudstream.reject_reasons import RejectReason
from fraudstream.transaction.money import MAX_AMOUNT_MINOR, RateTable
from training.offline.plan import Request
from training.offline.source.checks import LARGEST_AMOUNT, Columns

_REFERENCE_BOUNDS: Final = (
    0,
    LARGEST_AMOUNT + 1,
    f"a whole number of minor units, 0 to {LARGEST_AMOUNT}",
)
_BOUNDS: Final = (
    0,
    MAX_AMOUNT_MINOR + 1,
    f"a whole number of minor units, 0 to {MAX_AMOUNT_MINOR}",
)
_FAULTS: Final[Mapping[str, tuple[str, str]]] = {
    RejectReason.RATE_MISSING: (
        "currency",
        "a currency that rate table {rates.version} has a rate for on the day of the row",
    ),
    RejectReason.AMOUNT_RANGE: (
        "amount_minor",
        f"at most {LARGEST_AMOUNT} minor units of {{rates.reference_currency}}",
    ),
}


def reference_amounts(
    columns: Columns, request: Request, event_ms: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return amounts in reference minor units, int64 [N].

    Args:
        columns: With the reference amounts, or with amounts and currencies.
        request: Has the reference currency, and the rates if there are some.
        event_ms: Time of each row: the rates of its day convert it.

    Raises:
        InvalidSettings: A row has no amount, or no rate converts it.
    """
    if columns.has(AMOUNT_REFERENCE):
        return columns.wholes(AMOUNT_REFERENCE, _REFERENCE_BOUNDS, None)
    if request.rates is not None:
        return _converted(columns, request.rates, event_ms)
    is_foreign = pc.not_equal(columns.texts("currency"), request.reference_currency)
    columns.refuse(
        "currency",
        is_foreign.to_numpy(zero_copy_only=False),
        f"{request.reference_currency} (--reference-currency), as there is neither a column"
        f" {AMOUNT_REFERENCE} nor a --rate-table",
    )
    return columns.wholes("amount_minor", _REFERENCE_BOUNDS, None)


def _converted(
    columns: Columns, rates: RateTable, event_ms: NDArray[np.int64]
) -> NDArray[np.int64]:
    amounts = columns.wholes("amount_minor", _BOUNDS, None)
    found = amounts.copy()
    currencies = np.array(columns.texts("currency").to_pylist(), np.str_)
    faults = {reason: np.zeros(len(amounts), np.bool_) for reason in _FAULTS}
    is_foreign = currencies != rates.reference_currency
    faults[RejectReason.AMOUNT_RANGE] |= ~is_foreign & (amounts > LARGEST_AMOUNT)
    for row in np.flatnonzero(is_foreign).tolist():
        try:
            found[row] = rates.reference_minor(
                int(amounts[row]), str(currencies[row]), int(event_ms[row])
            )
        except InvalidTransaction as exc:
            faults[exc.reason][row] = True
    for reason, (name, expected) in _FAULTS.items():
        columns.refuse(name, faults[reason], expected.format(rates=rates))
    return found
