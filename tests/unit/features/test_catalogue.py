"""The catalogue of features: what names a feature, what is refused, and the page made from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fraudstream.features.card_kernel import card_plan
from fraudstream.features.catalogue import (
    CATALOGUE,
    FEATURE_HASHES,
    FEATURE_NAMES,
    SHARED_ENTITIES,
    Aggregation,
    Entity,
    Feature,
)
from fraudstream.features.entity_kernel import shared_plan
from fraudstream.tools.feature_table import feature_page
from harness.processes import PROJECT_FOLDER

_PAGE = PROJECT_FOLDER / "docs" / "features.md"


def _feature(entity: Entity, aggregation: Aggregation, window_h: int) -> Feature:
    return Feature("new", entity, aggregation, window_h, "count", "A feature more")


def test_catalogue_holds_at_least_sixty_features_of_six_entities() -> None:
    """Names are unique, and every kind of entity has features."""
    assert len(CATALOGUE) >= 60
    assert len(set(FEATURE_NAMES)) == len(CATALOGUE)
    assert len(Entity) == 6
    assert {feature.entity for feature in CATALOGUE} == set(Entity)


def test_every_kind_of_entity_is_shared_the_card_by_its_labels() -> None:
    """What other cards or labels move on lies in shards of its own."""
    of_card = [f for f in CATALOGUE if f.entity is Entity.CARD and not f.is_of_card]

    assert set(SHARED_ENTITIES) == set(Entity)
    assert of_card
    assert all(feature.reads_labels for feature in of_card)


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
        {"window_h": 48},
        {"unit": "s"},
    ],
)
def test_hash_depends_on_all_that_decides_the_value(change: dict[str, object]) -> None:
    """Entity, aggregation, window and unit are part of what a feature is."""
    feature = _feature(Entity.CARD, Aggregation.COUNT, 24)

    assert replace(feature, **change).hash != feature.hash  # type: ignore[arg-type]  # one field


@pytest.mark.parametrize(
    ("entity", "aggregation", "window_h", "message"),
    [
        (Entity.CARD, Aggregation.COUNT, 0, "COUNT takes a window, found 0 h"),
        (Entity.CARD, Aggregation.AMOUNT, 24, r"AMOUNT takes no window \(0\), found 24 h"),
        (Entity.CARD, Aggregation.COUNT, -1, "found -1 h"),
        (Entity.CARD, Aggregation.COUNT, 25, "1 to 24 hours or whole days up to 30"),
        (Entity.CARD, Aggregation.MAX, 31 * 24, "1 to 24 hours or whole days up to 30"),
        (Entity.TERMINAL, Aggregation.MAX, 24, "a shared entity has no MAX"),
        (Entity.DEVICE, Aggregation.DISTINCT_IPS, 24, "a shared entity has no DISTINCT_IPS"),
        (Entity.MERCHANT, Aggregation.MEAN, 12, "MEAN of a shared entity takes whole days"),
        (Entity.CARD, Aggregation.FRAUD_COUNT, 5, "FRAUD_COUNT of a shared entity takes whole"),
        (Entity.CARD, Aggregation.FRAUD_RUN, 24, "FRAUD_RUN takes no window"),
    ],
)
def test_what_no_kernel_computes_is_refused_with_what_is_possible(
    entity: Entity, aggregation: Aggregation, window_h: int, message: str
) -> None:
    """A mistake in the catalogue stops at import, not in a vector."""
    with pytest.raises(ValueError, match=message):
        _feature(entity, aggregation, window_h)


@pytest.mark.parametrize(
    ("entity", "aggregation", "window_h"),
    [
        (Entity.CARD, Aggregation.MAX, 6),
        (Entity.CARD, Aggregation.STD, 72),
        (Entity.CARD, Aggregation.DISTINCT_DEVICES, 5),
        (Entity.CARD, Aggregation.FRAUD_SHARE, 72),
        (Entity.CUSTOMER, Aggregation.SUM, 48),
        (Entity.IP, Aggregation.COUNT, 2),
        (Entity.MERCHANT, Aggregation.UNEXPLAINED_FRAUD_COUNT, 240),
        (Entity.DEVICE, Aggregation.FRAUD_RUN, 0),
    ],
)
def test_feature_of_a_known_kind_is_one_line(
    entity: Entity, aggregation: Aggregation, window_h: int
) -> None:
    """Declared at the end of the catalogue, it has a hash and a place in a kernel's plan.

    The features before it keep their hashes and places: models that are served stay valid.
    """
    more = (*CATALOGUE, _feature(entity, aggregation, window_h))

    plan, known = (
        card_plan(declared) if more[-1].is_of_card else shared_plan(entity, declared)
        for declared in (more, CATALOGUE)
    )

    is_new = plan[:, 0] == len(CATALOGUE)
    assert more[-1].hash not in FEATURE_HASHES
    assert tuple(feature.hash for feature in more[:-1]) == FEATURE_HASHES
    assert plan[is_new, 1].tolist() == [int(aggregation)]
    np.testing.assert_array_equal(plan[~is_new, :4], known[:, :4])


def test_page_of_features_is_that_of_the_catalogue() -> None:
    """docs/features.md is made by `python -m fraudstream.tools.feature_table`."""
    assert _PAGE.read_text() == feature_page()
