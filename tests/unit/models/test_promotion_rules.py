"""Who may order what: two people, versions, and what a rollback may do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worlds.promotion_world import EVIDENCE, PromotionWorld, promotion_world


@pytest.fixture
def world(tmp_path: Path) -> PromotionWorld:
    """An empty repository."""
    return promotion_world(tmp_path)


def test_promotion_takes_a_proposal_and_another_approver(world: PromotionWorld) -> None:
    """Alice proposes, Bob approves: the model is champion."""
    standing = world.crown("lstm/1")

    assert str(standing.champion) == "lstm/1"
    assert standing.previous is None
    assert standing.head.sequence == 3


def test_self_approval_is_refused_by_the_rule(world: PromotionWorld) -> None:
    """The proposer does not approve; the message names the rule."""
    world.add("lstm/1", trainer="dave")
    world.propose("lstm/1", who="bob")

    reason, message = world.refusal("promote", "lstm/1", who="bob")

    assert reason == "MODEL_TWO_PEOPLE"
    assert "two-person rule: 'bob' proposed lstm/1; another approver must sign it" in message


def test_trainer_does_not_approve_their_own_model(world: PromotionWorld) -> None:
    """Alice signed the artefact; somebody else proposing it does not make her independent."""
    world.add("lstm/1", trainer="alice")
    world.propose("lstm/1", who="bob")

    reason, message = world.refusal("promote", "lstm/1", who="alice")

    assert reason == "MODEL_TWO_PEOPLE"
    assert "'alice' signed the artefact of lstm/1 and cannot approve it" in message


def test_promotion_without_a_proposal_is_refused(world: PromotionWorld) -> None:
    """One person alone promotes nothing."""
    world.add("lstm/1")

    reason, message = world.refusal("promote", "lstm/1")

    assert reason == "MODEL_PROPOSAL"
    assert "no open proposal to promote lstm/1" in message


@pytest.mark.parametrize(
    ("who", "why"),
    [
        ("dave", "'dave' may not sign as approver"),
        ("erin", "signatures of 'erin' count until 2025-11-20"),
        ("mallory", "the signer is none of the 5 in the file of people"),
    ],
)
def test_only_approvers_of_today_approve(world: PromotionWorld, who: str, why: str) -> None:
    """A trainer, a person who left and a stranger are refused, each in its words."""
    world.add("lstm/1")
    world.propose("lstm/1")

    reason, message = world.refusal("promote", "lstm/1", who=who)

    assert reason == "MODEL_UNTRUSTED"
    assert f"entry 3: {why}" in message


def test_only_trainers_add_artefacts(world: PromotionWorld) -> None:
    """Who made a model brings it."""
    assert world.refusal("add", "lstm/1", trainer="bob")[0] == "MODEL_UNTRUSTED"


def test_override_takes_two_people_who_did_not_train(world: PromotionWorld) -> None:
    """Without a passed gate, the trainer's proposal does not count as the second pair of eyes."""
    world.add("lstm/1", trainer="alice")
    world.propose("lstm/1", who="alice", is_override=True)

    reason, message = world.refusal("promote", "lstm/1", who="bob", is_override=True)
    assert reason == "MODEL_TWO_PEOPLE"
    assert "an override takes two approvers, and 'alice'" in message

    world.propose("lstm/1", who="carol", is_override=True)
    standing = world.promote("lstm/1", who="bob", is_override=True)
    assert standing.champions[-1].order.is_override


@pytest.mark.parametrize("proposed", [True, False])
def test_override_is_said_by_both(world: PromotionWorld, proposed: bool) -> None:
    """Nobody overrides a gate without knowing."""
    world.add("lstm/1", trainer="dave")
    world.propose("lstm/1", who="carol", is_override=proposed)

    reason, message = world.refusal("promote", "lstm/1", is_override=not proposed)

    assert reason == "MODEL_PROPOSAL"
    advice = "used --override: repeat it" if proposed else "used no --override: leave it out"
    assert advice in message


def test_approval_rests_on_the_evidence_that_was_proposed(world: PromotionWorld) -> None:
    """The second person signs what the first one measured."""
    world.add("lstm/1")
    world.propose("lstm/1")

    reason, message = world.refusal("promote", "lstm/1", evidence=EVIDENCE[::-1])

    assert reason == "MODEL_PROPOSAL"
    assert "rests on other evidence" in message


def test_proposal_of_a_promotion_has_evidence(world: PromotionWorld) -> None:
    """A gate that did not run promotes nothing."""
    world.add("lstm/1")

    assert "has no evidence" in world.refusal("propose", "lstm/1", evidence=None)[1]


def test_proposal_says_what_it_asks_for(world: PromotionWorld) -> None:
    """A proposal to shadow is none."""
    world.add("lstm/1")

    assert "asks for promote or rollback" in world.refusal("propose", "lstm/1", asks="shadow")[1]


def test_change_of_champion_voids_proposals(world: PromotionWorld) -> None:
    """The evidence of a proposal is against one champion."""
    world.crown("lstm/1")
    world.add("lstm/2")
    world.add("lstm/3")
    world.propose("lstm/2")
    world.propose("lstm/3")
    world.promote("lstm/2")

    reason, message = world.refusal("promote", "lstm/3")

    assert reason == "MODEL_PROPOSAL"
    assert "A change of champion voids proposals" in message


def test_lower_version_is_a_rollback_and_says_so(world: PromotionWorld) -> None:
    """M12: an older model passes for new nowhere."""
    world.add("lstm/1")
    world.crown("lstm/2")

    reason, message = world.refusal("propose", "lstm/1")

    assert reason == "MODEL_ROLLBACK"
    assert "version 1 of lstm is lower than the live 2: that takes a signed rollback" in message


def test_rollback_to_the_previous_champion_takes_one_approver(world: PromotionWorld) -> None:
    """At 3 a.m. one is awake; that model was approved by two before."""
    world.crown("lstm/1")
    world.crown("lstm/2")

    standing = world.order("carol", "rollback", "lstm/1")

    assert str(standing.champion) == "lstm/1"
    assert standing.previous is None


def test_rolled_back_model_does_not_come_back_by_a_rollback(world: PromotionWorld) -> None:
    """Else one person could undo what another one stopped."""
    world.crown("lstm/1")
    world.crown("lstm/2")
    world.order("carol", "rollback", "lstm/1")

    reason, message = world.refusal("order", "bob", "rollback", "lstm/2")

    assert reason == "MODEL_ROLLBACK"
    assert "lstm/2 is no champion of before" in message


def test_rollback_further_back_takes_two(world: PromotionWorld) -> None:
    """The champion before the previous one is a choice, not an emergency brake."""
    for version in (1, 2, 3):
        world.crown(f"lstm/{version}")

    reason, message = world.refusal("order", "bob", "rollback", "lstm/1")
    assert reason == "MODEL_PROPOSAL"
    assert "no open proposal to rollback lstm/1" in message

    world.propose("lstm/1", who="bob", asks="rollback", evidence=None)
    assert world.refusal("order", "bob", "rollback", "lstm/1")[0] == "MODEL_TWO_PEOPLE"
    standing = world.order("carol", "rollback", "lstm/1")
    assert str(standing.champion) == "lstm/1"


def test_proposal_to_roll_back_is_no_proposal_to_promote(world: PromotionWorld) -> None:
    """Each order takes its own proposal."""
    world.crown("lstm/1")
    world.crown("mix/1")
    world.propose("lstm/1", who="carol", asks="rollback", evidence=None)

    assert world.refusal("promote", "lstm/1", evidence=None)[0] == "MODEL_PROPOSAL"


def test_retiring_a_champion_of_before_shortens_no_way_back(world: PromotionWorld) -> None:
    """One person cannot retire the previous champion to roll back further alone."""
    for version in (1, 2, 3):
        world.crown(f"lstm/{version}")
    world.order("bob", "retire", "lstm/2")

    assert "lstm/2 is retired" in world.refusal("order", "bob", "rollback", "lstm/2")[1]
    assert world.refusal("order", "bob", "rollback", "lstm/1")[0] == "MODEL_PROPOSAL"


def test_live_model_is_not_retired(world: PromotionWorld) -> None:
    """Something must answer."""
    world.crown("lstm/1")

    assert "lstm/1 is live" in world.refusal("order", "bob", "retire", "lstm/1")[1]


def test_shadows_are_challengers_until_promoted_or_retired(world: PromotionWorld) -> None:
    """The ledger names the challengers; a champion is none."""
    world.crown("lstm/1")
    for model in ("lstm/2", "mix/1"):
        world.add(model)
        standing = world.order("bob", "shadow", model)
    assert [str(model) for model in standing.challengers] == ["lstm/2", "mix/1"]
    assert "mix/1 scores already" in world.refusal("order", "bob", "shadow", "mix/1")[1]
    assert "lstm/1 scores already" in world.refusal("order", "bob", "shadow", "lstm/1")[1]

    world.order("bob", "retire", "mix/1")
    world.propose("lstm/2")
    standing = world.promote("lstm/2")

    assert standing.challengers == ()


def test_version_is_added_once(world: PromotionWorld) -> None:
    """An artefact never changes under its name."""
    world.add("lstm/1")

    reason, message = world.refusal("order", "alice", "add", "lstm/1", trainer="alice")

    assert reason == "MODEL_UNKNOWN"
    assert "a changed model takes a new version" in message


def test_addition_names_its_trainer(world: PromotionWorld) -> None:
    """Without it nobody could tell a self-approval."""
    world.add("lstm/1")
    world.models["lstm/2"] = world.models["lstm/1"].model_copy(update={"version": 2})

    assert "without naming its trainer" in world.refusal("order", "alice", "add", "lstm/2")[1]


def test_order_about_another_manifest_is_refused(world: PromotionWorld) -> None:
    """What is approved is what was added, to the byte."""
    world.add("lstm/1")
    other = {"manifest_sha256": "ab" * 32}
    world.models["lstm/1"] = world.models["lstm/1"].model_copy(update=other)

    assert "was added with another manifest" in world.refusal("propose", "lstm/1")[1]


def test_model_that_was_not_added_is_not_proposed(world: PromotionWorld) -> None:
    """Nothing is served from outside the repository."""
    world.add("lstm/1")
    world.models["lstm/7"] = world.models["lstm/1"].model_copy(update={"version": 7})

    assert "lstm/7 is not in the repository; add it first" in world.refusal("propose", "lstm/7")[1]


def test_champion_is_not_promoted_twice(world: PromotionWorld) -> None:
    """There is nothing to change."""
    world.crown("lstm/1")

    assert "lstm/1 is the champion already" in world.refusal("propose", "lstm/1")[1]
