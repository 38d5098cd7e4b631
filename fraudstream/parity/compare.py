"""Compare what a decision recorded with what was rebuilt of it, bit by bit. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.features.catalogue import (
    FEATURE_NAMES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
)
from fraudstream.v1.decision_pb2 import Decision

Floats = npt.NDArray[np.float32]

ANOTHER_FEATURE_SET: Final = "another feature set"


def fault_of(decision: Decision) -> str:
    """Return why a decision cannot be compared by this catalogue, empty if it can."""
    if not decision.vector:
        return "no features: a stand-in decision"
    if decision.feature_set_hash != FEATURE_SET_HASH:
        return f"{ANOTHER_FEATURE_SET}, {decision.feature_set_hash}"
    return ""


def differences(
    decision: Decision, vector: Floats, sequence: Floats
) -> tuple[tuple[str, float, float], ...]:
    """Return name, recorded and rebuilt value of everything that differs.

    Args:
        decision: With what was recorded.
        vector: float32 [F], rebuilt.
        sequence: float32 [T, C], rebuilt.
    """
    recorded = np.frombuffer(decision.vector + decision.sequence, "<f4")
    rebuilt = np.concatenate([vector, sequence.ravel()])
    same = (recorded.view("<u4") == rebuilt.view("<u4")) | (np.isnan(recorded) & np.isnan(rebuilt))
    return tuple(
        (name_of(index), float(recorded[index]), float(rebuilt[index]))
        for index in np.flatnonzero(~same).tolist()
    )


def name_of(index: int) -> str:
    """Return the name of a value of a vector followed by its sequence.

    >>> name_of(0), name_of(len(FEATURE_NAMES))
    ('amount', 'step 0 amount_minor')
    """
    if index < len(FEATURE_NAMES):
        return FEATURE_NAMES[index]
    step, channel = divmod(index - len(FEATURE_NAMES), len(SEQUENCE_CHANNELS))
    return f"step {step} {SEQUENCE_CHANNELS[channel]}"
