"""What `demo replay` prints at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.replay import ReplayOptions, words_of

SUMMARY = {"sent": 9, "decided": 9, "tested": 8, "frauds": 2, "ap": 0.5, "auc": 0.9, "cp100": 0.1}


@pytest.mark.parametrize(("days", "is_told"), [(1, True), (7, False), (14, True)])
def test_a_span_that_is_no_week_says_so_beside_the_weekly_figures(days: int, is_told: bool) -> None:
    """A day has few frauds, and the published means have many."""
    options = ReplayOptions(Path("x.parquet"), 0, days, None, Path(), None)

    assert ("chance moves its figures" in words_of(options, SUMMARY)) == is_told
