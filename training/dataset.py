"""Training sets: the rows of a history that a model learns from, with features and labels.

Axes: K rows kept, F features, S last steps of T, C channels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fraudstream.features.catalogue import SEQUENCE_LENGTH
from fraudstream.features.history import replay_history
from training.simulator.histories import LabelledHistory


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows with their features and labels, in time order.

    Attributes:
        vectors: float32 [K, F].
        sequences: float32 [K, S, C].
        is_fraud: bool [K].
        event_time_ms: int64 [K].
        card: int64 [K].
        amount_minor: int64 [K], reference minor units.
        row: int64 [K], index of each in its history.
    """

    vectors: NDArray[np.float32]
    sequences: NDArray[np.float32]
    is_fraud: NDArray[np.bool_]
    event_time_ms: NDArray[np.int64]
    card: NDArray[np.int64]
    amount_minor: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.is_fraud)

    def between(self, from_ms: int, until_ms: int) -> Examples:
        """Return the examples with event time in [from, until)."""
        return self.where((self.event_time_ms >= from_ms) & (self.event_time_ms < until_ms))

    def where(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> Examples:
        """Return the examples that a mask or indices name."""
        return Examples(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})


def examples_between(
    labelled: LabelledHistory, from_ms: int, until_ms: int, steps: int = SEQUENCE_LENGTH
) -> Examples:
    """Replay a whole history and return the rows with event time in [from, until).

    Args:
        labelled: The history.
        from_ms: First event time that is kept.
        until_ms: The one after the last.
        steps: Last steps of each sequence; boosting reads the row itself alone, 1.
    """
    event_ms = labelled.event_time_ms
    wanted = (event_ms >= from_ms) & (event_ms < until_ms)
    replayed = replay_history(labelled.history, wanted, steps)
    return Examples(
        vectors=replayed.vectors,
        sequences=replayed.sequences,
        is_fraud=labelled.is_fraud[wanted],
        event_time_ms=event_ms[wanted],
        card=labelled.history.card[wanted],
        amount_minor=labelled.amount_minor[wanted],
        row=np.flatnonzero(wanted),
    )


def content_hash(examples: Examples) -> str:
    """Return SHA-256 over all that a model learned from, hexadecimal."""
    digest = hashlib.sha256()
    for field in fields(examples):
        digest.update(np.ascontiguousarray(getattr(examples, field.name)).tobytes())
    return digest.hexdigest()
