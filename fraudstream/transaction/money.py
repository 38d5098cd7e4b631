"""Money: minor units, and their value in the reference currency by a dated, versioned table.

All arithmetic is on integers; a rate is a fraction that was exact in the table.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, Self

from fraudstream.errors import InvalidSettings, InvalidTransaction
from fraudstream.reject_reasons import RejectReason
from fraudstream.transaction import indicative_rates
from fraudstream.transaction.iso_codes import CURRENCY_EXPONENTS

_LOG: Final = logging.getLogger(__name__)

# Sums over a window stay inside int64: 9,000 amounts of the upper bound are below 2^63.
MAX_AMOUNT_MINOR: Final = 10**15
MAX_REFERENCE_MINOR: Final = 10**13


@dataclass(frozen=True, slots=True)
class RateTable:
    """Rates of one version: from each date on, a factor for each currency.

    Attributes:
        version: Travels with each converted amount, so that it can be recomputed.
        reference_currency: ISO 4217 code.
        starts_ms: First millisecond of each column, ascending. Earlier times use the first.
        factors: For each column, currency to (numerator, denominator) from minor to minor units.
    """

    version: str
    reference_currency: str
    starts_ms: tuple[int, ...]
    factors: tuple[Mapping[str, tuple[int, int]], ...]

    @classmethod
    def of_quotes(
        cls, version: str, reference_currency: str, quotes: Mapping[str, Mapping[str, str]]
    ) -> Self:
        """Make a table of quotes: date to currency to its units for one reference unit.

        Raises:
            InvalidSettings: A date, currency or quote is not one.

        >>> RateTable.of_quotes("1", "EUR", {"2026-01-01": {"JPY": "200"}}).version
        '1'
        """
        if reference_currency not in CURRENCY_EXPONENTS or not quotes or not version:
            msg = "a rate table needs a version, an ISO 4217 reference currency and one date"
            raise InvalidSettings(msg)
        try:
            columns = sorted((_start_ms(day), column) for day, column in quotes.items())
            factors = tuple(_factors(reference_currency, column) for _, column in columns)
        except (ValueError, KeyError, TypeError, InvalidOperation) as exc:
            msg = f"rate table {version}: dates are YYYY-MM-DD, quotes positive decimals in quotes"
            raise InvalidSettings(msg) from exc
        return cls(version, reference_currency, tuple(start for start, _ in columns), factors)

    def reference_minor(self, amount_minor: int, currency: str, event_time_ms: int) -> int:
        """Return an amount in reference minor units, half to even.

        Raises:
            InvalidTransaction: `RATE_MISSING`, or `AMOUNT_RANGE` over 10^13.

        >>> indicative_rate_table().reference_minor(1150, "USD", 0)
        1000
        """
        column = max(bisect_right(self.starts_ms, event_time_ms) - 1, 0)
        factor = self.factors[column].get(currency)
        if factor is None:
            msg = f"table {self.version} has no rate for the currency at this date"
            raise InvalidTransaction(RejectReason.RATE_MISSING, msg)
        numerator, denominator = factor
        whole, rest = divmod(amount_minor * numerator, denominator)
        if 2 * rest > denominator or (2 * rest == denominator and whole & 1):
            whole += 1
        if whole > MAX_REFERENCE_MINOR:
            msg = "the amount is over 10^13 reference minor units"
            raise InvalidTransaction(RejectReason.AMOUNT_RANGE, msg)
        return whole


def _start_ms(day: str) -> int:
    midnight = datetime.combine(date.fromisoformat(day), datetime.min.time(), tzinfo=UTC)
    return int(midnight.timestamp()) * 1000


def _factors(reference: str, column: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Turn quotes into exact fractions: minor reference units for one minor unit."""
    factors = {reference: (1, 1)}
    for currency, quote in column.items():
        units = Decimal(quote)
        if not units.is_finite() or units <= 0:
            raise ValueError(currency)
        scale = CURRENCY_EXPONENTS[reference] - CURRENCY_EXPONENTS[currency]
        up, down = units.as_integer_ratio()
        factors[currency] = (down * 10 ** max(scale, 0), up * 10 ** max(-scale, 0))
    return factors


def indicative_rate_table() -> RateTable:
    """Return the built-in table, which is good enough for a demo and nothing else.

    >>> indicative_rate_table().reference_currency
    'EUR'
    """
    return RateTable.of_quotes(
        indicative_rates.VERSION, indicative_rates.REFERENCE_CURRENCY, indicative_rates.RATES
    )


def load_rate_table(path: Path) -> RateTable:
    """Read a table: JSON with `version`, `reference_currency` and `rates` (date, currency, quote).

    Raises:
        InvalidSettings: The file is missing or is not such a table.
    """
    try:
        table = json.loads(path.read_text())
        return RateTable.of_quotes(table["version"], table["reference_currency"], table["rates"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        msg = f"rate table {path}: expected JSON with version, reference_currency and rates"
        raise InvalidSettings(msg) from exc


def open_rate_table(path: Path | None) -> RateTable:
    """Return the table of a file, else the built-in one; the log says which table converts.

    Raises:
        InvalidSettings: The file is missing or is not such a table.
    """
    if path is None:
        table = indicative_rate_table()
        _LOG.warning(
            "amounts are converted by the built-in rates, version %s, which are indicative only:"
            " expected a table of your own in FRAUD_RATES_TABLE_FILE",
            table.version,
        )
        return table
    table = load_rate_table(path)
    _LOG.info(
        "amounts are converted to %s by rate table %s of %s",
        table.reference_currency,
        table.version,
        path,
    )
    return table
