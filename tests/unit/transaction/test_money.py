"""Amounts in the reference currency, against cases worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraudstream.errors import InvalidSettings, InvalidTransaction
from fraudstream.transaction.iso_codes import COUNTRIES, CURRENCY_EXPONENTS, USER_ASSIGNED
from fraudstream.transaction.money import RateTable, indicative_rate_table, load_rate_table

DAY_MS = 86_400_000
TABLE = RateTable.of_quotes(
    "test",
    "EUR",
    {
        "2026-01-02": {"USD": "2", "JPY": "150", "KWD": "0.5"},
        "2026-01-01": {"USD": "1.6", "CLF": "0.04"},
    },
)
FIRST_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("amount_minor", "currency", "event_time_ms", "expected"),
    [
        (1234, "EUR", 0, 1234),
        (200, "USD", FIRST_MS + DAY_MS, 100),
        (160, "USD", FIRST_MS + DAY_MS - 1, 100),
        (160, "USD", 0, 100),
        (150, "JPY", FIRST_MS + 9 * DAY_MS, 100),
        (500, "KWD", FIRST_MS + DAY_MS, 100),
        (400, "CLF", FIRST_MS, 100),
    ],
)
def test_amount_in_the_reference_currency(
    amount_minor: int, currency: str, event_time_ms: int, expected: int
) -> None:
    """The column of the event's day counts, and both currencies' decimals."""
    assert TABLE.reference_minor(amount_minor, currency, event_time_ms) == expected


@pytest.mark.parametrize(("cents", "expected"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_half_goes_to_the_even_neighbour(cents: int, expected: int) -> None:
    """Two dollars a euro: odd cents end in one half."""
    assert TABLE.reference_minor(cents, "USD", FIRST_MS + DAY_MS) == expected


def test_currency_without_a_rate_at_that_date_is_refused() -> None:
    """A later column does not borrow from an earlier one."""
    with pytest.raises(InvalidTransaction, match="RATE_MISSING"):
        TABLE.reference_minor(1, "CLF", FIRST_MS + DAY_MS)


def test_amount_over_the_bound_is_refused() -> None:
    """Window sums stay inside 64 bits."""
    with pytest.raises(InvalidTransaction, match="AMOUNT_RANGE"):
        TABLE.reference_minor(10**13 + 1, "EUR", 0)


def test_indicative_rates_know_every_circulating_currency() -> None:
    """Only fund codes, in which no card is charged, have no rate."""
    without = set(CURRENCY_EXPONENTS) - set(indicative_rate_table().factors[0])

    assert without == {"BOV", "CHE", "CHW", "CLF", "COU", "MXV", "USN", "UYI", "UYW"}


def test_code_lists_have_the_length_of_the_standard() -> None:
    """ISO 3166-1 has 249 countries; four currencies show the four exponents."""
    assert len(COUNTRIES - USER_ASSIGNED) == 249
    assert [CURRENCY_EXPONENTS[code] for code in ("JPY", "EUR", "KWD", "CLF")] == [0, 2, 3, 4]


def test_table_of_a_file_is_used(tmp_path: Path) -> None:
    """A bank's own rates come from a JSON file."""
    path = tmp_path / "rates.json"
    path.write_text(
        json.dumps(
            {
                "version": "2026-01",
                "reference_currency": "CHF",
                "rates": {"2026-01-01": {"EUR": "1.25"}},
            }
        )
    )

    assert load_rate_table(path).reference_minor(125, "EUR", FIRST_MS) == 100


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        "{}",
        '{"version": "1", "reference_currency": "XXZ", "rates": {"2026-01-01": {}}}',
        '{"version": "1", "reference_currency": "EUR", "rates": {}}',
        '{"version": "1", "reference_currency": "EUR", "rates": {"1 Jan": {}}}',
        '{"version": "1", "reference_currency": "EUR", "rates": {"2026-01-01": {"USD": "0"}}}',
        '{"version": "1", "reference_currency": "EUR", "rates": {"2026-01-01": {"USD": "NaN"}}}',
        '{"version": "1", "reference_currency": "EUR", "rates": {"2026-01-01": {"ZZZ": "1"}}}',
        '{"version": "1", "reference_currency": "EUR", "rates": {"2026-01-01": {"USD": null}}}',
    ],
)
def test_file_that_is_no_table_is_refused(tmp_path: Path, content: str) -> None:
    """The service does not start on rates that it cannot read."""
    path = tmp_path / "rates.json"
    path.write_text(content)

    with pytest.raises(InvalidSettings):
        load_rate_table(path)
