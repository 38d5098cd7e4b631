"""Test transactions: calls of one named bank id whose outcome the caller chooses by merchant id.

For integrators, as payment processors' test cards. Nothing is recorded, published or learned from:
an answer is a pure function of the transaction, marked by the model hash `sandbox` and the reason
SANDBOX. Off unless a setting names the bank id, which has to begin with `sandbox`, so no real
bank's transaction is ever answered here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, cast

from fraudstream.errors import CALLER_ERRORS, FraudStreamError, InvalidTransaction
from fraudstream.names import word_of
from fraudstream.transaction.actions import ACTIONS
from fraudstream.transaction.identity import decision_id_of
from fraudstream.v1.decision_pb2 import Action, Decision, Reason, StandInCause
from services.scoring.api.methods import Decider
from services.scoring.authorise.event_time import TimeLeft
from services.scoring.authorise.intake import Arrival
from services.scoring.authorise.recording import Answer
from services.scoring.reasons.texts import stand_in_reason

MARK: Final = "sandbox"
_REASON: Final = Reason(code="SANDBOX", text="A test transaction: nothing was decided")


def _kebab(text: str) -> str:
    """Return CamelCase or SNAKE_CASE in lower case with dashes."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", text).replace("_", "-").lower()


def _decisions() -> dict[str, Decision]:
    found = {
        _kebab(word_of(Action, action)): Decision(
            action=action, score=row.test_score, raw_score=row.test_score, reasons=[_REASON]
        )
        for action, row in ACTIONS.items()
    }
    found["replayed"] = Decision(action=Action.ACTION_APPROVE, reasons=[_REASON], replayed=True)
    found["provisional"] = Decision(
        action=Action.ACTION_APPROVE, reasons=[_REASON], provisional=True
    )
    for value in StandInCause.values():
        cause = cast("StandInCause", value)  # typeshed has it as int
        if cause != StandInCause.STAND_IN_CAUSE_UNSPECIFIED:
            name = StandInCause.Name(cause).replace("_CAUSE", "")
            found[_kebab(name)] = Decision(
                action=Action.ACTION_REVIEW,
                reasons=[stand_in_reason(cause), _REASON],
                stand_in=True,
                stand_in_cause=cause,
                degraded=True,
                provisional=cause == StandInCause.STAND_IN_CAUSE_STORE_UNAVAILABLE,
            )
    return found


DECISIONS: Final[Mapping[str, Decision]] = MappingProxyType(_decisions())
"""What each merchant id is answered with, without the fields that tell which transaction it is."""

ERRORS: Final[Mapping[str, type[FraudStreamError]]] = MappingProxyType(
    {
        "error-internal" if error is FraudStreamError else f"error-{_kebab(error.__name__)}": error
        for error in CALLER_ERRORS
    }
)
"""Which error each of the other merchant ids forces."""


class SandboxDoor:
    """Answers the sandbox's transactions, and passes all others on to the door behind it."""

    def __init__(self, door: Decider, bank_id: str) -> None:
        self._door = door
        self._bank_id = bank_id

    async def decide(self, arrivals: Sequence[Arrival], time: TimeLeft) -> list[Answer]:
        """Return the answer to each arrival, in order."""
        answers = {
            index: forced_answer(arrival)
            for index, arrival in enumerate(arrivals)
            if arrival.transaction.bank_id == self._bank_id
        }
        real = [index for index in range(len(arrivals)) if index not in answers]
        if real:
            decided = await self._door.decide([arrivals[index] for index in real], time)
            answers |= zip(real, decided, strict=True)
        return [answers[index] for index in range(len(arrivals))]


def forced_answer(arrival: Arrival) -> Answer:
    """Return what the merchant id of a test transaction asks for."""
    asked = arrival.transaction.merchant_id
    if (error := ERRORS.get(asked)) is not None:
        msg = "a test transaction that asked for this error"
        return error("SANDBOX", msg) if error is InvalidTransaction else error(msg)
    form = DECISIONS.get(asked)
    if form is None:
        known = ", ".join([*DECISIONS, *ERRORS])
        return InvalidTransaction("SANDBOX", f"merchant_id of a test transaction: expected {known}")
    decision = Decision()
    decision.CopyFrom(form)
    transaction = arrival.transaction
    decision.decision_id = decision_id_of(arrival.identity)
    decision.bank_id = transaction.bank_id
    decision.transaction_id = transaction.transaction_id
    decision.card_token = transaction.card_token
    decision.digest = arrival.row.digest
    decision.event_time_ms = transaction.event_time_ms
    decision.trace_id = arrival.span.trace_id
    decision.model_hash = MARK
    decision.asked_by = arrival.asked_by
    decision.transaction.CopyFrom(transaction)
    return decision
