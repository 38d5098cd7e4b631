"""From scores to actions and alerts."""

from __future__ import annotations

import numpy as np
import pytest

from fraudstream.features.catalogue import (
    FEATURE_HASHES,
    FEATURE_NAMES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.models.calibration import Thresholds
from fraudstream.transaction.actions import ACTIONS, needs_person
from fraudstream.transaction.identity import alert_id_of, decision_id_of, identity_of
from fraudstream.v1.decision_pb2 import Action, Decision, StageTimings, StandInCause
from fraudstream.v1.transaction_pb2 import Transaction
from services.scoring.decision.verdict import action_of, stand_in
from services.scoring.publishing.alert import build_alert

THRESHOLDS = Thresholds(challenge=0.2, review=0.5, decline=0.9)


@pytest.mark.parametrize(
    ("score", "action"),
    [
        (0.0, Action.ACTION_APPROVE),
        (np.nextafter(0.2, 0), Action.ACTION_APPROVE),
        (0.2, Action.ACTION_CHALLENGE),
        (0.5, Action.ACTION_REVIEW),
        (0.9, Action.ACTION_DECLINE),
        (1.0, Action.ACTION_DECLINE),
    ],
)
def test_score_on_a_threshold_has_reached_it(score: float, action: Action) -> None:
    """Thresholds belong to the stricter side."""
    assert action_of(score, THRESHOLDS) == action


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (Action.ACTION_APPROVE, False),
        (Action.ACTION_CHALLENGE, False),
        (Action.ACTION_REVIEW, True),
        (Action.ACTION_DECLINE, True),
    ],
)
def test_review_and_decline_need_a_person(action: Action, expected: bool) -> None:
    """A challenge is the cardholder's to answer."""
    assert needs_person(Decision(action=action)) is expected


def test_every_action_is_in_the_table() -> None:
    """One that the wire has and the table has not would have no strictness."""
    assert {Action.ACTION_UNSPECIFIED, *ACTIONS} == set(Action.values())


@pytest.mark.parametrize("cause", StandInCause.values()[1:])
def test_stand_in_says_why_and_leaves_the_action_to_the_rules(cause: StandInCause) -> None:
    """Without a model the reason is the cause, and nothing is decided by default."""
    verdict = stand_in(cause)

    assert verdict.action == Action.ACTION_UNSPECIFIED
    assert verdict.is_stand_in
    assert verdict.why.reasons[0].code == StandInCause.Name(cause).replace("_CAUSE", "")


def alerted_decision() -> Decision:
    """Return a declined decision with two steps of history."""
    identity = identity_of("bank", "token", "t-1")
    sequence = np.zeros((SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS)), np.float32)
    sequence[:, 1] = -1
    sequence[-2] = (1_000, 60, 1, 2, 742, 9.5)
    sequence[-1] = (2_500, 0, 1, 1, 5411, 9.6)
    return Decision(
        decision_id=decision_id_of(identity),
        action=Action.ACTION_DECLINE,
        score=0.5,
        event_time_ms=1_000_000,
        feature_set_hash=FEATURE_SET_HASH,
        sequence_hash=SEQUENCE_HASH,
        vector=np.arange(len(FEATURE_HASHES), dtype=np.float32).tobytes(),
        sequence=sequence.tobytes(),
        timings=StageTimings(scoring_ended_us=5_000_123),
        transaction=Transaction(amount_reference_minor=2_500),
    )


def test_alert_reads_as_an_analyst_needs_it() -> None:
    """Names beside values, the card's steps without padding, the loss that is at stake."""
    decision = alerted_decision()

    alert = build_alert(decision)

    assert alert.alert_id == alert_id_of(identity_of("bank", "token", "t-1"))
    assert alert.expected_loss_minor == 1_250
    assert alert.raised_at_ms == 5_000
    assert [feature.name for feature in alert.features] == list(FEATURE_NAMES)
    assert alert.features[3].value == 3.0
    assert [step.event_time_ms for step in alert.sequence] == [940_000, 1_000_000]
    assert [step.mcc for step in alert.sequence] == ["0742", "5411"]
    assert not alert.decision.vector
    assert decision.vector, "the decision itself keeps what it was made from"


def test_same_decision_always_makes_the_same_alert() -> None:
    """Whoever publishes an alert makes the same bytes."""
    first = build_alert(alerted_decision()).SerializeToString(deterministic=True)

    assert build_alert(alerted_decision()).SerializeToString(deterministic=True) == first


def test_alert_of_another_catalogue_has_no_wrong_names() -> None:
    """Numbers that this release cannot name are left out."""
    decision = alerted_decision()
    decision.feature_set_hash = "another"

    assert not build_alert(decision).features
