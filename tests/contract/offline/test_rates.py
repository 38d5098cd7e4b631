"""Amounts in several currencies, converted by a dated rate table as ingest converts them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.transaction.money import load_rate_table
from training.cli import run

DAY_MS = 86_400_000
TIME_MS = 20_459 * DAY_MS  # 2026-01-06
CURRENCIES = ["USD", "JPY", "CHF", "USD"]
AMOUNTS = [1_150, 333, 777, 1_150]
TIMES = [TIME_MS, TIME_MS + 1, TIME_MS + 2, TIME_MS + DAY_MS]
TABLE = {
    "version": "2026-01-07",
    "reference_currency": "CHF",
    "rates": {
        "2026-01-06": {"USD": "1.25", "JPY": "197.3"},
        "2026-01-07": {"USD": "1.2", "JPY": "197.3"},
    },
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return the file of a rate table."""
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(TABLE))
    return path


def made(folder: Path, currencies: list[str], *arguments: str) -> int:
    """Make the set of a file without reference amounts; return the exit code."""
    count = len(currencies)
    rows = {
        "card_token": ["card"] * count,
        "transaction_id": [f"t{number}" for number in range(count)],
        "amount_minor": AMOUNTS[:count],
        "currency": currencies,
        "event_time_ms": TIMES[:count],
    }
    pq.write_table(pa.table(rows), folder / "rows.parquet")
    source, out = f"--source={folder}/rows.parquet", f"--out={folder}/set"
    return run(["dataset", source, out, "--processes=1", *arguments])


def test_amounts_are_those_that_ingest_makes_of_them(tmp_path: Path, table: Path) -> None:
    """By the rates of the row's day; the set says of which table and in which currency."""
    assert made(tmp_path, CURRENCIES, f"--rate-table={table}") == 0

    found = pq.read_table(tmp_path / "set" / "part-00000.parquet")
    rates = load_rate_table(table)
    wanted = [rates.reference_minor(*row) for row in zip(AMOUNTS, CURRENCIES, TIMES, strict=True)]
    assert found["amount_reference_minor"].to_pylist() == wanted
    assert wanted == [920, 169, 777, 958]
    request = json.loads((tmp_path / "set" / "_dataset.json").read_text())["request"]
    assert (request["rate_table_version"], request["reference_currency"]) == ("2026-01-07", "CHF")


def test_table_of_the_environment_converts_too(
    tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting that ingest and scoring have."""
    monkeypatch.setenv("FRAUD_RATES_TABLE_FILE", str(table))

    assert made(tmp_path, CURRENCIES) == 0


@pytest.mark.parametrize(
    ("currencies", "arguments", "expected"),
    [
        (
            ["CHF", "SEK"],
            ["--rate-table={table}"],
            "rows.parquet: column currency, row 1 (the first is 0): expected a currency that rate"
            " table 2026-01-07 has a rate for on the day of the row, found 'SEK'",
        ),
        (["EUR", "SEK"], [], "column currency, row 1 (the first is 0): expected EUR"),
        (
            ["CHF"],
            ["--rate-table={table}", "--reference-currency=EUR"],
            "--reference-currency: expected CHF, as the rate table has, found EUR",
        ),
    ],
)
def test_what_cannot_be_converted_is_named(
    tmp_path: Path,
    table: Path,
    capsys: pytest.CaptureFixture[str],
    currencies: list[str],
    arguments: list[str],
    expected: str,
) -> None:
    """File, column and row of what has no rate, and a currency that is not the table's."""
    code = made(tmp_path, currencies, *(each.format(table=table) for each in arguments))

    assert code == 78
    assert expected in capsys.readouterr().err
