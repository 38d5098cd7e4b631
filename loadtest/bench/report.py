"""The table and the JSON rows. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.bench.interleave import Measured


def json_rows(found: Sequence[Measured], options: Sequence[str]) -> str:
    """Return all figures as JSON rows; one without a value says why under `skipped`.

    `options` is what the command was given besides `--only` and `--json`.
    """
    return json.dumps([_row(measured, options) for measured in found], indent=1) + "\n"


def _row(measured: Measured, options: Sequence[str]) -> dict[str, Any]:
    figure = measured.figure
    words = ["python", "-m", "loadtest.bench", "--only", figure.name, *options]
    row: dict[str, Any] = {
        "name": figure.name,
        "value": _rounded(measured.value),
        "unit": figure.unit,
        "must": figure.must,
        "aim": figure.aim,
        "runs": len(measured.values),
        "spread": [_rounded(end) for end in measured.spread] if measured.spread else None,
        "command": " ".join(words),
    }
    if measured.skipped:
        row["skipped"] = measured.skipped
    if measured.apart:
        row["apart"] = {name: _rounded(value) for name, value in measured.apart.items()}
    return row


def _rounded(value: float | None) -> float | None:
    """Return four significant digits: repeats differ by more than that."""
    return None if value is None else float(f"{value:.4g}")


def print_table(found: Sequence[Measured], console: Console) -> None:
    """Print the figures, what is reported beside them, and what was skipped."""
    table = Table("figure", "value", "unit", "interval", "runs", "must", "aim", "")
    for measured in found:
        table.add_row(*_cells(measured))
    console.print(table)
    said: list[str] = []
    told: list[dict[str, float]] = []
    for measured in found:
        if measured.apart and measured.apart not in told:
            told.append(measured.apart)
            values = ", ".join(f"{name} {value:,.4g}" for name, value in measured.apart.items())
            said.append(f"beside {measured.figure.name}: {values}")
    said += [f"skipped {each.figure.name}: {each.skipped}" for each in found if each.skipped]
    for line in said:
        console.print(line, highlight=False, soft_wrap=True)


def _cells(measured: Measured) -> list[str]:
    figure, spread, sign = measured.figure, measured.spread, "≤" if measured.figure.is_cost else "≥"
    return [
        figure.name,
        _text(measured.value),
        figure.unit,
        f"{_text(spread[0])} to {_text(spread[1])}" if spread else "",
        str(len(measured.values)),
        "" if figure.must is None else f"{sign} {_text(figure.must)}",
        "" if figure.aim is None else f"{sign} {_text(figure.aim)}",
        _result(measured),
    ]


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if value < 10_000 else f"{value:,.0f}"


def _result(measured: Measured) -> str:
    figure, value = measured.figure, measured.value
    if value is None:
        return "skipped"
    if not measured.reaches_must:
        return "below must" if not figure.is_cost else "above must"
    if figure.aim is not None and figure.reaches(value, figure.aim):
        return "aim"
    return "must" if figure.must is not None else ""
