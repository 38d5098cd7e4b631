"""The catalogue of features: what names a feature, and the page that is made from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fraudstream.features.catalogue import (
    CATALOGUE,
    FEATURE_HASHES,
    FEATURE_NAMES,
    Aggregation,
    Entity,
    Window,
)
from fraudstream.features.table import feature_page

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"


def test_catalogue_holds_at_least_twenty_five_features() -> None:
    """A first catalogue: names are unique, of cards and of terminals."""
    assert len(CATALOGUE) >= 25
    assert len(set(FEATURE_NAMES)) == len(CATALOGUE)
    assert {feature.entity for feature in CATALOGUE} == set(Entity)


def test_hashes_are_distinct_and_fit_64_bits() -> None:
    """A model finds the features that it needs by hash alone."""
    assert len(set(FEATURE_HASHES)) == len(CATALOGUE)
    assert all(0 <= number < 2**64 for number in FEATURE_HASHES)


def test_hash_does_not_depend_on_prose() -> None:
    """Another name or description is the same feature."""
    feature = CATALOGUE[1]

    assert replace(feature, name="renamed", description="reworded").hash == feature.hash


@pytest.mark.parametrize(
    "change",
    [
        {"entity": Entity.TERMINAL},
        {"aggregation": Aggregation.SUM},
        {"window": Window.MONTH},
        {"unit": "s"},
    ],
)
def test_hash_depends_on_all_that_decides_the_value(change: dict[str, object]) -> None:
    """Entity, aggregation, window and unit are part of what a feature is."""
    feature = CATALOGUE[1]

    assert replace(feature, **change).hash != feature.hash  # type: ignore[arg-type]  # one field


def test_page_of_features_is_that_of_the_catalogue() -> None:
    """docs/features.md is made by `python -m fraudstream.features.table`."""
    assert _PAGE.read_text() == feature_page()
