"""How figures are written: shares as percentages, money in major units, intervals in brackets."""

from __future__ import annotations

import math
from typing import Final

from training.evaluation.figures.bootstrap import Interval

NOTHING: Final = "n/a"


def number(value: float | None, digits: int = 3) -> str:
    """Return a plain number.

    >>> number(0.75132), number(float("nan"))
    ('0.751', 'n/a')
    """
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage.

    >>> percent(0.0251)
    '2.5 %'
    """
    return NOTHING if share is None or not math.isfinite(share) else f"{100 * share:,.{digits}f} %"


def ratio_text(value: float) -> str:
    """Return a ratio against all rows; infinite where a segment has nothing of what it should.

    >>> ratio_text(1.254), ratio_text(float("inf"))
    ('1.25', '∞')
    """
    return "∞" if value == math.inf else number(value, 2)


def count(value: int) -> str:
    """Return a whole number with its thousands set apart.

    >>> count(67240)
    '67,240'
    """
    return f"{value:,}"


def money(minor: float) -> str:
    """Return an amount of reference minor units in major units.

    >>> money(123456)
    '1,235'
    """
    return NOTHING if not math.isfinite(minor) else f"{minor / 100:,.0f}"


def interval(found: Interval, digits: int = 3, is_signed: bool = False) -> str:
    """Return an interval.

    >>> interval(Interval(0.75, 0.7312, 0.769, 1000))
    '0.731 to 0.769'
    """
    form = f"{'+' if is_signed else ''}.{digits}f"
    known = math.isfinite(found.low) and math.isfinite(found.high)
    return f"{found.low:{form}} to {found.high:{form}}" if known else NOTHING


def spread(mean: float, std: float, digits: int = 3) -> str:
    """Return a mean with its standard deviation.

    >>> spread(0.75, 0.01)
    '0.750 ± 0.010'
    """
    return f"{number(mean, digits)} ± {number(std, digits)}"
