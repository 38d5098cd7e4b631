"""Population stability index, against cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fraudstream.models.psi import DriftLevel, bin_edges, counts_of, psi_of, psi_of_counts


def test_psi_is_the_sum_over_bins() -> None:
    """Shares 0.5, 0.5 become 0.25, 0.75: -0.25 ln 0.5 + 0.25 ln 1.5, half a row aside."""
    found = psi_of_counts(np.array([50_000, 50_000, 0]), np.array([25_000, 75_000, 0]))

    assert found.psi == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5), abs=1e-4)
    assert found.bins == 2
    assert found.level is DriftLevel.ALARM


def test_bins_cut_the_reference_into_equal_parts() -> None:
    """Ten bins of a hundred values each, the outer ones open."""
    reference = np.arange(1_000.0)

    counts = counts_of(reference, bin_edges(reference))

    assert counts.tolist() == [100] * 10 + [0]
    assert counts_of(np.array([-1e9, 1e9]), bin_edges(reference)).tolist()[0] == 1


def test_a_value_that_many_rows_share_is_a_bin_of_its_own() -> None:
    """A count is zero for most rows: zero stands apart from one, and from what is below."""
    reference = np.repeat([0.0, 1.0, 2.0], [900, 60, 40])

    edges = bin_edges(reference)

    assert counts_of(reference, edges).tolist()[0] == 900
    assert psi_of(reference, np.repeat([0.0, 1.0, 2.0], [600, 360, 40])).level is DriftLevel.ALARM


def test_missing_values_are_a_bin_of_their_own() -> None:
    """A feature that goes missing has drifted, though all known values are as before."""
    reference = np.arange(1_000.0)
    current = np.where(np.arange(1_000) % 2 == 0, np.nan, reference)

    found = psi_of(reference, current)

    assert (found.reference_missing, found.current_missing) == (0.0, 0.5)
    assert found.level is DriftLevel.ALARM


def test_values_that_are_all_missing_on_both_sides_have_not_moved() -> None:
    """A source without devices has no device features, then and now."""
    nothing = np.full(100, np.nan)

    assert psi_of(nothing, nothing).psi == 0.0


def test_two_samples_of_one_population_raise_nothing() -> None:
    """However few the rows: PSI of 60 rows is over 0.1 by chance, and that is known."""
    rng = np.random.default_rng(4)
    found = [psi_of(rng.normal(size=60), rng.normal(size=60)) for _ in range(200)]

    assert max(each.psi for each in found) > 0.2
    assert sum(each.level is not DriftLevel.STABLE for each in found) <= 10


def test_large_samples_of_one_population_are_far_below_the_level_of_watch() -> None:
    """With ten thousand rows each chance gives about 0.002."""
    rng = np.random.default_rng(4)

    found = psi_of(rng.normal(size=10_000), rng.normal(size=10_000))

    assert found.psi < 0.01
    assert found.noise == pytest.approx(21.67 * 2 / 10_000, rel=0.01)


def test_levels_are_a_tenth_and_a_fifth() -> None:
    """A shift of a third of the spread is worth a look, of half of it an alarm."""
    rng = np.random.default_rng(4)
    reference = rng.normal(size=50_000)

    levels = [psi_of(reference, rng.normal(shift, size=50_000)).level for shift in (0.1, 0.36, 0.6)]

    assert levels == [DriftLevel.STABLE, DriftLevel.WATCH, DriftLevel.ALARM]
