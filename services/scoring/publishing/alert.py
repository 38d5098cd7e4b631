"""Make the alert of a decision: the same numbers, as an analyst reads them. Pure.

An alert is derived from its decision alone, so whoever publishes it (the scorer that decided, or
one that sweeps another's outbox) makes the same bytes.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from fraudstream.features.catalogue import (
    FEATURE_NAMES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_HASH,
    SEQUENCE_LENGTH,
)
from fraudstream.transaction.identity import Identity, alert_id_of
from fraudstream.v1.alert_pb2 import Alert
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.features_pb2 import FeatureValue, SequenceStep

# A stand-in says nothing about fraud; even odds keep its alert in the queue by its amount.
STAND_IN_ODDS: Final = 0.5

_AMOUNT: Final = SEQUENCE_CHANNELS.index("amount_minor")
_SECONDS_BEFORE: Final = SEQUENCE_CHANNELS.index("seconds_before")
_KIND: Final = SEQUENCE_CHANNELS.index("kind")
_CHANNEL: Final = SEQUENCE_CHANNELS.index("channel")
_MCC: Final = SEQUENCE_CHANNELS.index("mcc")


def build_alert(decision: Decision) -> Alert:
    """Return the alert of a decision that needs a person.

    Vector and sequence are left out of its decision: their readable forms are in the alert. What
    another catalogue computed has no readable form here and is left out. So is the seal.
    """
    alert = Alert(
        alert_id=alert_id_of(Identity(bytes.fromhex(decision.decision_id))),
        decision=decision,
        sequence=read_sequence(decision),
        features=read_features(decision),
        raised_at_ms=decision.timings.scoring_ended_us // 1000,
        expected_loss_minor=expected_loss_minor(decision),
    )
    alert.decision.ClearField("vector")
    alert.decision.ClearField("sequence")
    alert.decision.ClearField("seal")
    return alert


def expected_loss_minor(decision: Decision) -> int:
    """Return score times amount in reference minor units: what not looking may cost.

    >>> from fraudstream.v1.transaction_pb2 import Transaction
    >>> expected_loss_minor(
    ...     Decision(score=0.25, transaction=Transaction(amount_reference_minor=1000))
    ... )
    250
    """
    odds = STAND_IN_ODDS if decision.stand_in else decision.score
    return round(odds * decision.transaction.amount_reference_minor)


def read_features(decision: Decision) -> list[FeatureValue]:
    """Return the vector's values by name, in its order."""
    if decision.feature_set_hash != FEATURE_SET_HASH:
        return []
    values = np.frombuffer(decision.vector, "<f4").tolist()
    if len(values) != len(FEATURE_NAMES):
        return []
    return [
        FeatureValue(name=name, value=value)
        for name, value in zip(FEATURE_NAMES, values, strict=True)
    ]


def read_sequence(decision: Decision) -> list[SequenceStep]:
    """Return the card's steps without the padding, oldest first."""
    steps = np.frombuffer(decision.sequence, "<f4")
    if decision.sequence_hash != SEQUENCE_HASH or (
        steps.size != SEQUENCE_LENGTH * len(SEQUENCE_CHANNELS)
    ):
        return []
    return [
        SequenceStep(
            event_time_ms=decision.event_time_ms - round(step[_SECONDS_BEFORE] * 1000),
            amount_reference_minor=round(step[_AMOUNT]),
            kind=int(step[_KIND]),
            channel=int(step[_CHANNEL]),
            mcc=f"{int(step[_MCC]):04d}",
        )
        for step in steps.reshape(SEQUENCE_LENGTH, -1).tolist()
        if step[_SECONDS_BEFORE] >= 0
    ]
