"""Reasons as people read them: a stable code, its words, and how far it moved the score. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fraudstream.v1.decision_pb2 import Action, Reason, StandInCause
from services.scoring.reasons.explanation import Explanation
from services.scoring.reasons.occlusion import Occlusion

TOP_REASONS: Final = 3

FITS_HABITS: Final = Reason(code="FITS_HABITS", text="Fits the card's habits", contribution=0.0)
FITS: Final = Explanation((FITS_HABITS,))
NO_HISTORY: Final = Reason(
    code="NO_HISTORY", text="First transaction of this card here", contribution=0.0
)
FIRST: Final = Explanation((NO_HISTORY,))
_OF_APPROVALS: Final = frozenset((FITS_HABITS.code, NO_HISTORY.code))
SUM_OF_MANY: Final = Reason(
    code="MANY_SMALL_SIGNS", text="Several small signs together", contribution=0.0
)
_STAND_IN_TEXTS: Final = {
    StandInCause.STAND_IN_CAUSE_MODEL_NOT_LOADED: "No model is loaded",
    StandInCause.STAND_IN_CAUSE_MODEL_FAILED: "The model gave no score",
    StandInCause.STAND_IN_CAUSE_STORE_UNAVAILABLE: "The card's history could not be read",
    StandInCause.STAND_IN_CAUSE_DEADLINE: "There was no time left for the model",
    StandInCause.STAND_IN_CAUSE_QUEUE_FULL: "Too many transactions waited for the model",
}


def reasons_of(contributions: Sequence[float], groups: Sequence[Occlusion]) -> tuple[Reason, ...]:
    """Return the three groups that moved one row's score most towards fraud, the largest first.

    Where no single group stands out, the reason is that there are many.
    """
    order = sorted(range(len(groups)), key=contributions.__getitem__, reverse=True)
    top = [index for index in order[:TOP_REASONS] if contributions[index] > 0]
    return tuple(
        Reason(code=groups[index].code, text=groups[index].text, contribution=contributions[index])
        for index in top
    ) or (SUM_OF_MANY,)


def reasons_for(action: Action, reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """Return the reasons that go with an action: none for an approval where it is another.

    >>> reasons_for(Action.ACTION_DECLINE, [FITS_HABITS])
    ()
    """
    if action == Action.ACTION_APPROVE:
        return tuple(reasons)
    return tuple(reason for reason in reasons if reason.code not in _OF_APPROVALS)


def stand_in_reason(cause: StandInCause) -> Reason:
    """Return the one reason of a stand-in decision.

    >>> stand_in_reason(StandInCause.STAND_IN_CAUSE_DEADLINE).code
    'STAND_IN_DEADLINE'
    """
    code = StandInCause.Name(cause).replace("_CAUSE", "")
    return Reason(code=code, text=_STAND_IN_TEXTS[cause], contribution=0.0)
