"""What one fit learns from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.dataset import Examples


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one fit learns from. N rows.

    Attributes:
        train: The rows.
        later: Later rows that say when to stop; None to take all epochs.
        past: Rows before `train`, for pre-training; their labels are not looked at.
        teacher: Raw scores of a larger model for `train`, at the true prevalence, float64 [N];
            None to learn from labels.
        folder: Where the state is kept after each epoch, and found again; None for nowhere.
    """

    train: Examples
    later: Examples | None = None
    past: Examples | None = None
    teacher: NDArray[np.float64] | None = None
    folder: Path | None = None
