"""Who may let a challenger decide some cards, and what ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudstream.models.ledger_entry import LedgerEntry
from fraudstream.models.promotion_rules import Standing
from tests.worlds.promotion_world import PromotionWorld, promotion_world


@pytest.fixture
def world(tmp_path: Path) -> PromotionWorld:
    """A champion, and a proposed challenger."""
    world = promotion_world(tmp_path)
    world.crown("lstm/1")
    world.add("lstm/2")
    world.propose("lstm/2")
    return world


def canary_of(standing: Standing) -> LedgerEntry:
    """Return the canary's entry."""
    assert standing.canary is not None
    return standing.canary


def test_canary_leaves_the_champion_and_its_proposal(world: PromotionWorld) -> None:
    """It is approved as a promotion is, for its share, and the promotion can follow."""
    standing = world.canary("lstm/2", share_permille=50)

    assert str(canary_of(standing).order.model) == "lstm/2"
    assert canary_of(standing).order.share_permille == 50
    assert str(standing.champion) == "lstm/1"
    assert "lstm/2" in standing.proposals


def test_share_can_be_changed(world: PromotionWorld) -> None:
    """The same proposal allows a larger one."""
    world.canary("lstm/2", share_permille=10)

    standing = world.canary("lstm/2", share_permille=200)

    assert canary_of(standing).order.share_permille == 200


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"who": "alice"}, "MODEL_TWO_PEOPLE"),
        ({"who": "dave"}, "MODEL_UNTRUSTED"),
        ({"evidence": "0" * 64}, "MODEL_PROPOSAL"),
        ({"is_override": True}, "MODEL_PROPOSAL"),
        ({"share_permille": None}, "MODEL_LEDGER"),
    ],
)
def test_canary_takes_what_a_promotion_takes(
    world: PromotionWorld, order: dict[str, object], reason: str
) -> None:
    """Two people, the proposal's evidence, and a share."""
    assert world.refusal("canary", "lstm/2", **order)[0] == reason


def test_canary_takes_a_proposal_and_a_champion(tmp_path: Path, world: PromotionWorld) -> None:
    """Nobody alone lets a model decide, and the first model is promoted or nothing."""
    world.add("lstm/3")
    assert world.refusal("canary", "lstm/3")[0] == "MODEL_PROPOSAL"
    empty = promotion_world(tmp_path / "empty")
    empty.add("lstm/1")
    empty.propose("lstm/1")

    assert "no champion beside which" in empty.refusal("canary", "lstm/1")[1]


@pytest.mark.parametrize("share_permille", [0, 501])
def test_share_is_bounded(world: PromotionWorld, share_permille: int) -> None:
    """Half of the cards at most: more is a promotion."""
    with pytest.raises(ValueError, match="share_permille"):
        world.canary("lstm/2", share_permille=share_permille)


def test_promotion_ends_it(world: PromotionWorld) -> None:
    """All cards from now on."""
    world.canary("lstm/2")

    standing = world.promote("lstm/2")

    assert standing.canary is None
    assert str(standing.champion) == "lstm/2"


def test_rollback_to_the_live_champion_ends_it_by_one_person(world: PromotionWorld) -> None:
    """At 3 a.m. the champion decides all cards again; the proposal is void, the line is not."""
    world.canary("lstm/2")

    standing = world.roll_back("lstm/1")

    assert standing.canary is None
    assert str(standing.champion) == "lstm/1"
    assert len(standing.champions) == 1
    assert not standing.proposals
    assert world.refusal("roll_back", "lstm/1")[0] == "MODEL_ROLLBACK"


def test_retiring_ends_it(world: PromotionWorld) -> None:
    """And it never comes back."""
    world.canary("lstm/2")

    standing = world.retire("lstm/2")

    assert standing.canary is None
    assert "lstm/2" in standing.retired


def test_change_of_champion_ends_it(world: PromotionWorld) -> None:
    """Its evidence was against another champion."""
    world.promote("lstm/2")
    world.add("lstm/3")
    world.propose("lstm/3")
    world.canary("lstm/3")

    standing = world.roll_back("lstm/1")

    assert standing.canary is None
    assert str(standing.champion) == "lstm/1"


def test_entries_without_a_share_keep_their_bytes(world: PromotionWorld) -> None:
    """Ledgers from before there were canaries hold."""
    assert b"share_permille" not in world.ledger
    world.canary("lstm/2")

    assert world.ledger.count(b"share_permille") == 1
    assert world.standing().head.sequence == 6
