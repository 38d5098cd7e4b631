"""The table of the figures, `figures.toml`: what each is, and how far it should go."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from loadtest.bench.figure import Figure, Value


def figure(name: str, value: Value) -> Figure:
    """Return a figure of the table, and what takes its value from a round.

    >>> figure("rules_50_us", lambda _: 0.0).unit
    'us'
    """
    return Figure(name=name, value=value, **{"unit": "ratio", **_rows()[name]})


@cache
def _rows() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("figures.toml").read_text())
