"""What wins: from an action and the signals of a rule set to the action that is taken. Pure.

1. A block list declines. Nothing lowers that.
2. A rule that fires, or a watch list (review), raises the action to its own. The strictest wins:
   see `transaction/actions.py`. A weaker signal never lowers what the model wants.
3. An allow list, or an `approve` rule, takes the *model's* action back to approve. It lifts neither
   a list nor a rule of 1 and 2.
4. Else the model's action stands.

Without a model the stand-in policy gives the action in the model's place, and 3 does not apply: its
caps are limits, and hold for an allowed customer too. So a stand-in is a function of transaction
and rule set alone, and a repeat agrees with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fraudstream.rules.rule_set import Cap, StandIn
from fraudstream.rules.signals import Signal
from fraudstream.transaction.actions import strictest
from fraudstream.transaction.json_form import ENUM_WORDS
from fraudstream.v1.decision_pb2 import Action
from fraudstream.v1.transaction_pb2 import Transaction

# Looking a name up in a protobuf enum costs as much as setting three fields.
_APPROVE: Final = Action.ACTION_APPROVE
_CHANNELS: Final = ENUM_WORDS["channel"]


def ruled_action(model_action: Action, signals: Sequence[Signal]) -> Action:
    """Return the action of a transaction that a model scored.

    >>> ruled_action(Action.ACTION_REVIEW, []) == Action.ACTION_REVIEW
    True
    """
    if not signals:
        return model_action
    wanted = [signal.action for signal in signals]
    # A list or rule that approves takes the model's word away, not that of the others.
    return strictest(wanted if _APPROVE in wanted else [model_action, *wanted])


def stand_in_action(transaction: Transaction, policy: StandIn, signals: Sequence[Signal]) -> Action:
    """Return the action of a transaction that no model scored.

    >>> policy = StandIn.model_validate({"otherwise": "review"})
    >>> stand_in_action(Transaction(), policy, []) == Action.ACTION_REVIEW
    True
    """
    return strictest([_capped(transaction, policy), *(signal.action for signal in signals)])


def _capped(transaction: Transaction, policy: StandIn) -> Action:
    """Return what the first cap says that fits a transaction."""
    for cap in policy.caps:
        if _fits(transaction, cap):
            is_within = transaction.amount_reference_minor <= cap.up_to_minor
            return cap.action if is_within else cap.above
    return policy.otherwise


def _fits(transaction: Transaction, cap: Cap) -> bool:
    channel = _CHANNELS.get(transaction.channel, "")
    return (not cap.channels or channel in cap.channels) and (
        not cap.mccs or transaction.mcc in cap.mccs
    )
