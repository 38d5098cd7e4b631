"""What became of tested rows, as far as figures need it. N rows in time order."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from training.dataset import Examples
from training.metrics import Bools, Floats, Ints, Scored


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Tested rows without their features.

    Attributes:
        is_fraud: bool [N].
        event_time_ms: int64 [N].
        card: int64 [N].
        amount_minor: int64 [N], reference minor units.
    """

    is_fraud: Bools
    event_time_ms: Ints
    card: Ints
    amount_minor: Ints

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.is_fraud)

    @classmethod
    def of(cls, examples: Examples) -> Self:
        """Return what became of some examples."""
        return cls(**{field.name: getattr(examples, field.name) for field in fields(cls)})

    @classmethod
    def concatenated(cls, parts: list[Outcomes]) -> Self:
        """Return the rows of several folds, one after another."""
        return cls(
            **{
                field.name: np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(cls)
            }
        )

    def where(self, kept: Bools) -> Outcomes:
        """Return the rows that a mask names."""
        return Outcomes(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})

    def scored(self, score: Floats) -> Scored:
        """Return the rows with scores, as the ranking figures take them."""
        return Scored(score, self.is_fraud, self.event_time_ms, self.card)
