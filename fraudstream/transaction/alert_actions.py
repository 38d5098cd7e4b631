"""Which decisions ask for an alert. Pure."""

from __future__ import annotations

from typing import Final

from fraudstream.v1.decision_pb2 import Action, Decision

_ACTIONS_FOR_A_PERSON: Final = frozenset({Action.ACTION_REVIEW, Action.ACTION_DECLINE})


def needs_person(decision: Decision) -> bool:
    """Return whether a decision raises an alert.

    Review and decline do. A challenge does not: the cardholder answers it, and an analyst who sees
    each would see little else.

    >>> needs_person(Decision(action=Action.ACTION_CHALLENGE))
    False
    """
    return decision.action in _ACTIONS_FOR_A_PERSON
