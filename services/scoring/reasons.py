"""Why a decision was made: what happens to the score when one habit of the card is put back.

Occlusion: for each group of the manifest, its features and sequence channels are replaced by the
baseline and the row is scored again by the same engine. A group's contribution is the difference
of the logits, so reasons say what the model itself did, in log-odds.

Axes: `B` rows, `G` groups, `T` sequence length, `C` sequence channels, `F` the model's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.engines.protocol import FloatArray
from fraudstream.features.catalogue import SEQUENCE_CHANNELS
from fraudstream.v1.decision_pb2 import Reason, StandInCause

TOP_REASONS: Final = 3
# A score of exactly 0 or 1 has no logit; this is the smallest step of a float32 below 1.
_EDGE: Final = 2.0**-24
_SECONDS_BEFORE: Final = SEQUENCE_CHANNELS.index("seconds_before")

FITS_HABITS: Final = Reason(code="FITS_HABITS", text="Fits the card's habits", contribution=0.0)
_SUM_OF_MANY: Final = Reason(
    code="MANY_SMALL_SIGNS", text="Several small signs together", contribution=0.0
)
_STAND_IN_TEXTS: Final = {
    StandInCause.STAND_IN_CAUSE_MODEL_NOT_LOADED: "No model is loaded",
    StandInCause.STAND_IN_CAUSE_MODEL_FAILED: "The model gave no score",
    StandInCause.STAND_IN_CAUSE_STORE_UNAVAILABLE: "The card's history could not be read",
    StandInCause.STAND_IN_CAUSE_DEADLINE: "There was no time left for the model",
}


@dataclass(frozen=True, slots=True)
class Occlusion:
    """One group of the manifest, in positions of the model's input.

    Attributes:
        code: Stable code of the reason.
        text: The same in words.
        columns: Positions in the vector.
        column_values: Their baseline values, float32.
        channels: Positions in a step of the sequence.
        channel_values: Their baseline values, float32.
    """

    code: str
    text: str
    columns: npt.NDArray[np.intp]
    column_values: FloatArray
    channels: npt.NDArray[np.intp]
    channel_values: FloatArray


def logit(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return log-odds, float64, finite for 0 and 1 too.

    >>> logit(np.array([0.5])).tolist()
    [0.0]
    """
    clipped = np.clip(scores.astype(np.float64), _EDGE, 1 - _EDGE)
    return np.log(clipped / (1 - clipped))


def occlude_rows(
    vectors: FloatArray, sequences: FloatArray, occlusions: tuple[Occlusion, ...]
) -> tuple[FloatArray, FloatArray]:
    """Return each row once per group with that group at its baseline, [B * G, ...], row by row.

    A channel is set to its usual value in every step that is no padding: it then says nothing.
    """
    groups = len(occlusions)
    occluded = np.repeat(vectors, groups, axis=0)  # [B * G, F]
    steps = np.repeat(sequences, groups, axis=0)  # [B * G, T, C]
    is_step = sequences[:, :, _SECONDS_BEFORE] >= 0  # [B, T]
    for place, group in enumerate(occlusions):
        occluded[place::groups, group.columns] = group.column_values
        for channel, value in zip(group.channels, group.channel_values, strict=True):
            steps[place::groups, :, channel][is_step] = value
    return occluded, steps


def contributions_of(raw_scores: FloatArray, occluded_scores: FloatArray) -> FloatArray:
    """Return how far each group moved each row's score towards fraud, log-odds, [B, G].

    Args:
        raw_scores: The rows' own raw scores, float32 [B].
        occluded_scores: Their raw scores without each group, float32 [B, G]; where there is none
            (NaN) the group moved nothing.
    """
    moved = logit(raw_scores)[:, None] - logit(occluded_scores)
    return np.nan_to_num(moved).astype(np.float32)


def reasons_of(
    contributions: Sequence[float], occlusions: tuple[Occlusion, ...]
) -> tuple[Reason, ...]:
    """Return the three groups that moved one row's score most towards fraud, the largest first."""
    order = sorted(range(len(occlusions)), key=contributions.__getitem__, reverse=True)
    top = [place for place in order[:TOP_REASONS] if contributions[place] > 0]
    if not top:
        return unexplained()
    return tuple(
        Reason(
            code=occlusions[place].code,
            text=occlusions[place].text,
            contribution=contributions[place],
        )
        for place in top
    )


def unexplained() -> tuple[Reason, ...]:
    """Return the reasons of a flagged row in which no single group stands out."""
    return (_SUM_OF_MANY,)


def stand_in_reason(cause: StandInCause) -> Reason:
    """Return the one reason of a stand-in decision.

    >>> stand_in_reason(StandInCause.STAND_IN_CAUSE_DEADLINE).code
    'STAND_IN_DEADLINE'
    """
    code = StandInCause.Name(cause).replace("_CAUSE", "")
    return Reason(code=code, text=_STAND_IN_TEXTS[cause], contribution=0.0)
