"""The actions of a decision: how strict each is, and whether a person looks at it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fraudstream.names import word_of
from fraudstream.v1.decision_pb2 import Action, Decision


@dataclass(frozen=True, slots=True)
class ActionRow:
    """One action.

    Attributes:
        needs_person: Whether it raises an alert.
        test_score: What the sandbox answers beside it.
    """

    needs_person: bool
    test_score: float


# The mildest first: this order is their strictness, the number on the wire says nothing of it. A
# challenge raises no alert: the cardholder answers it, and an analyst who sees each would see
# little else.
ACTIONS: Final[Mapping[Action, ActionRow]] = MappingProxyType(
    {
        Action.ACTION_APPROVE: ActionRow(needs_person=False, test_score=0.01),
        Action.ACTION_CHALLENGE: ActionRow(needs_person=False, test_score=0.40),
        Action.ACTION_REVIEW: ActionRow(needs_person=True, test_score=0.70),
        Action.ACTION_DECLINE: ActionRow(needs_person=True, test_score=0.95),
    }
)
ACTION_WORDS: Final[Mapping[str, Action]] = MappingProxyType(
    {word_of(Action, action): action for action in ACTIONS}
)
"""Actions by their names, the mildest first."""

STRICTNESS: Final[Mapping[Action, int]] = {action: rank for rank, action in enumerate(ACTIONS)}
_FOR_A_PERSON: Final = frozenset(action for action, row in ACTIONS.items() if row.needs_person)


def strictest(actions: Iterable[Action]) -> Action:
    """Return the strictest of some actions.

    >>> strictest([Action.ACTION_DECLINE, Action.ACTION_REVIEW]) == Action.ACTION_DECLINE
    True
    """
    return max(actions, key=STRICTNESS.__getitem__)


def needs_person(decision: Decision) -> bool:
    """Return whether a decision raises an alert.

    >>> needs_person(Decision(action=Action.ACTION_CHALLENGE))
    False
    """
    return decision.action in _FOR_A_PERSON
