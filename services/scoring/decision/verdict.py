"""From a score to an action. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fraudstream.models.calibration import Thresholds
from fraudstream.v1.decision_pb2 import Action, StandInCause
from services.scoring.reasons.explanation import Explanation
from services.scoring.reasons.texts import stand_in_reason

# Looking a name up in a protobuf enum costs as much as setting three fields.
_MODEL_DECIDED: Final = StandInCause.STAND_IN_CAUSE_UNSPECIFIED
_APPROVE: Final = Action.ACTION_APPROVE


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one row, before it is written down.

    Attributes:
        action: What the bank shall do; unspecified for a stand-in until the rules were asked.
        score: Calibrated probability of fraud; 0 for a stand-in, which has none.
        raw_score: Before calibration.
        why: Its reasons, and what the card's past did.
        bucket: Rows of the padded batch; 0 where no engine ran.
        engine_version: What computed the score; empty where no engine did.
        stand_in_cause: Why no model decided; unspecified where one did.
        model_hash: Which model decided, or failed to; empty where none was asked.
    """

    action: Action
    score: float
    raw_score: float
    why: Explanation
    bucket: int = 0
    engine_version: str = ""
    stand_in_cause: StandInCause = _MODEL_DECIDED
    model_hash: str = ""

    @property
    def is_stand_in(self) -> bool:
        """Return whether no model decided."""
        return self.stand_in_cause != _MODEL_DECIDED


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """When the engine began and ended with a row's batch, epoch microseconds; 0 for no engine."""

    started_us: int = 0
    ended_us: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdicts in the order of the rows, and when the engine worked on them."""

    verdicts: list[Verdict]
    engine: EngineTimes = EngineTimes()


def action_of(score: float, thresholds: Thresholds) -> Action:
    """Return the action for a calibrated score; a score on a threshold has reached it."""
    if score >= thresholds.decline:
        return Action.ACTION_DECLINE
    if score >= thresholds.review:
        return Action.ACTION_REVIEW
    if score >= thresholds.challenge:
        return Action.ACTION_CHALLENGE
    return _APPROVE


def stand_in(cause: StandInCause) -> Verdict:
    """Return the verdict without a model. It has no action: the rule set's policy gives it one.

    >>> stand_in(StandInCause.STAND_IN_CAUSE_DEADLINE).action == Action.ACTION_UNSPECIFIED
    True
    """
    return Verdict(
        action=Action.ACTION_UNSPECIFIED,
        score=0.0,
        raw_score=0.0,
        why=Explanation((stand_in_reason(cause),)),
        stand_in_cause=cause,
    )
