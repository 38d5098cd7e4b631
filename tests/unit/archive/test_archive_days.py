"""The day of a file is that of its records' stamps, whatever they are."""

from __future__ import annotations

from datetime import date

import pytest

from services.archive.partition_archive import _day_of


@pytest.mark.parametrize(
    ("time_ms", "day"),
    [
        (1_767_225_600_000, date(2026, 1, 1)),
        (-1, date(1970, 1, 1)),
        (-(2**63), date(1970, 1, 1)),
        (2**63 - 1, date(9999, 12, 31)),
    ],
)
def test_any_stamp_has_a_day(time_ms: int, day: date) -> None:
    """A stamp that is no time cannot stop the archive."""
    assert _day_of(time_ms) == day
