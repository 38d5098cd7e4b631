"""Is a run worse than what was committed? Ratios only: times are another machine's. Pure.

A figure is worse where its median lies beyond the bad end of the committed interval by more than
the margin: the interval says how far repeats of one machine differ, the margin how far machines do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from fraudstream.errors import InvalidSettings
from loadtest.bench.figure import Figure

RATIO: Final = "ratio"
MARGIN: Final = 0.15


class Verdict(StrEnum):
    """What the gate says of one figure."""

    HOLDS = "holds"
    BETTER = "better"
    WORSE = "worse"
    MISSING = "not measured"


@dataclass(frozen=True, slots=True)
class Committed:
    """A ratio as it was committed.

    Attributes:
        value: Its median.
        low: Lower end of its interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Gated:
    """One figure beside what was committed."""

    figure: Figure
    committed: Committed
    found: float | None
    verdict: Verdict


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file: those that `--json` wrote, or a file of `loadtest/results`.

    Raises:
        InvalidSettings: It is neither.
    """
    try:
        content = json.loads(path.read_text())
        rows = content["rows"] if isinstance(content, dict) else content
        return [dict(row) for row in rows if row["name"]]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        msg = f"{path}: expected rows of the benchmark as JSON, found {type(exc).__name__}: {exc}"
        raise InvalidSettings(msg) from exc


def ratios_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Committed]:
    """Return the ratios among rows, by name; what was skipped has none.

    >>> ratios_of([{"name": "a", "unit": "ratio", "value": 2.0, "spread": [1.5, 2.5]}])
    {'a': Committed(value=2.0, low=1.5, high=2.5)}
    """
    return {
        row["name"]: Committed(row["value"], *(row["spread"] or (row["value"], row["value"])))
        for row in rows
        if row["unit"] == RATIO and row["value"] is not None
    }


def gate(
    figures: Sequence[Figure], committed: Mapping[str, Committed], found: Mapping[str, float]
) -> list[Gated]:
    """Return the verdict on each committed ratio, in the order of the figures."""
    return [
        Gated(
            figure,
            committed[figure.name],
            found.get(figure.name),
            _verdict(figure, committed[figure.name], found.get(figure.name)),
        )
        for figure in figures
        if figure.name in committed
    ]


def _verdict(figure: Figure, committed: Committed, found: float | None) -> Verdict:
    if found is None:
        return Verdict.MISSING
    if found > committed.high * (1 + MARGIN):
        return Verdict.WORSE if figure.is_cost else Verdict.BETTER
    if found < committed.low / (1 + MARGIN):
        return Verdict.BETTER if figure.is_cost else Verdict.WORSE
    return Verdict.HOLDS


def has_failed(gated: Sequence[Gated]) -> bool:
    """Return whether a figure is worse, or none was measured: a gate that sees nothing is none."""
    verdicts = {each.verdict for each in gated}
    return Verdict.WORSE in verdicts or verdicts <= {Verdict.MISSING}


def print_gate(gated: Sequence[Gated], console: Console) -> None:
    """Print each figure beside what was committed."""
    table = Table("figure", "committed", "interval", "found", "better is", "verdict")
    for each in gated:
        known = each.committed
        table.add_row(
            each.figure.name,
            f"{known.value:.4g}",
            f"{known.low:.4g} to {known.high:.4g}",
            "" if each.found is None else f"{each.found:.4g}",
            "less" if each.figure.is_cost else "more",
            each.verdict.value,
        )
    console.print(table)
    console.print(f"margin beyond the interval: {MARGIN:.0%}", highlight=False)
