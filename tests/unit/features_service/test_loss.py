"""What a marker says of its shard: open, lost, or not this release's to touch."""

from __future__ import annotations

import pytest

from fraudstream.errors import FeatureSpecMismatch
from fraudstream.features.state import LAYOUT_HASH
from fraudstream.store.shard import Marker, Role, ShardRef
from services.features.shards.loss import LossReason, loss_of

_SHARD = ShardRef(Role.CARD, 3, "aa:6")


def _marker(
    incarnation: str = "aa:6", layout: str = LAYOUT_HASH, primary: str = "p", serving: str = "p"
) -> Marker:
    return Marker(incarnation, layout, "some generation", primary, 7, serving)


def test_marker_of_any_generation_is_open() -> None:
    """The marker is the pointer: whatever generation it names is the one."""
    assert loss_of(_SHARD, _marker()) is None


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        (_marker(serving="q"), LossReason.ANOTHER_PRIMARY),
        (_marker(incarnation="bb:6"), LossReason.LOG_MADE_ANEW),
        (_marker(incarnation="aa:4"), LossReason.LOG_WIDENED),
    ],
)
def test_loss_is_named(marker: Marker, reason: LossReason) -> None:
    """Each loss is told by what differs."""
    assert loss_of(_SHARD, marker) is reason


def test_another_layout_is_never_a_loss() -> None:
    """Also under another primary: a person says which release goes on."""
    with pytest.raises(FeatureSpecMismatch, match="rebuild"):
        loss_of(_SHARD, _marker(layout="other", serving="q"))
