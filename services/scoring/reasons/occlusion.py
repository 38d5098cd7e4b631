"""What the score would be without parts of a row: which rows the engine is asked, what they say.

A group's contribution is the mean of two differences of logits: of the row and the row without the
group, and of the row with nothing but the group and the row with nothing. Where groups act alone or
in pairs this is exactly their Shapley value (2 rows a group instead of 2^groups); where three or
more stand for each other it gives each of them more than its share. "Without" puts features and
channels at their baseline. A past transaction is taken out of the sequence as if it had never been;
the vector, which has counted it, stays.

Bounded: a row asks the engine for at most 32 more. Pure. Axes: `G` groups, `R` rows asked for,
`T` sequence length, `C` sequence channels, `F` the model's features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.engines.protocol import FloatArray
from fraudstream.features.catalogue import SEQUENCE_CHANNELS
from fraudstream.v1.decision_pb2 import PastContribution

MAX_EXTRA_ROWS: Final = 32
# Twice 12, the row with nothing, and 7 blocks of past transactions are 32 rows: one batch.
MAX_GROUPS: Final = 12
# Steps back, first and last: what was last done alone, what is long past together.
PAST_BLOCKS: Final = ((1, 1), (2, 2), (3, 3), (4, 5), (6, 9), (10, 17), (18, 31))

# A score of exactly 0 or 1 has no logit; this is the smallest step of a float32 below 1.
_EDGE: Final = 2.0**-24
_SECONDS_BEFORE: Final = SEQUENCE_CHANNELS.index("seconds_before")
_PADDING: Final = -1.0  # in `seconds_before`; the other channels of a padded step are 0

Rows = tuple[FloatArray, FloatArray]


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

    def put_back(
        self, vectors: FloatArray, sequences: FloatArray, chosen: npt.NDArray[np.bool_]
    ) -> None:
        """Put the group at its baseline in chosen rows, in place: float32 [R, F] and [R, T, C].

        A channel is set in every step that is no padding: it then says nothing.
        """
        vectors[np.ix_(chosen, self.columns)] = self.column_values
        is_step = (sequences[:, :, _SECONDS_BEFORE] >= 0) & chosen[:, None]  # [R, T]
        for channel, value in zip(self.channels, self.channel_values, strict=True):
            sequences[:, :, channel][is_step] = value


@dataclass(frozen=True, slots=True)
class Measured:
    """What the engine's answers say about one row.

    Attributes:
        contributions: Of each group that was asked about, log-odds towards fraud.
        past: Of the card's past transactions, the newest first.
    """

    contributions: tuple[float, ...]
    past: tuple[PastContribution, ...]


def logit(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return log-odds, float64, finite for 0 and 1 too.

    >>> logit(np.array([0.5])).tolist()
    [0.0]
    """
    clipped = np.clip(scores.astype(np.float64), _EDGE, 1 - _EDGE)
    return np.log(clipped / (1 - clipped))


def rows_asked(vector: FloatArray, sequence: FloatArray, groups: Sequence[Occlusion]) -> Rows:
    """Return what the engine is asked about one row, float32 [F] and [T, C].

    In order: the row without each group, with nothing but each group, with nothing, and without
    each block of its past; [R, F] and [R, T, C].
    """
    number = len(groups)
    blocks = blocks_of(sequence)
    is_grouped = 2 * number + 1 if number else 0
    vectors = np.repeat(vector[None], is_grouped + len(blocks), axis=0)
    sequences = np.repeat(sequence[None], len(vectors), axis=0)
    for index, group in enumerate(groups):
        is_without = np.zeros(len(vectors), np.bool_)
        is_without[number:is_grouped] = True
        is_without[[index, number + index]] = [True, False]
        group.put_back(vectors, sequences, is_without)
    for index, (newest, oldest) in enumerate(blocks, start=is_grouped):
        sequences[index] = without_steps(sequence, newest, oldest)
    return vectors, sequences


def read_answers(
    raw_score: float, answers: FloatArray, groups: int, blocks: Sequence[tuple[int, int]]
) -> Measured:
    """Return what the engine's answers say; where there is none (NaN) nothing was moved.

    Args:
        raw_score: Of the row itself.
        answers: Raw scores of the rows asked for, float32 [R], in their order.
        groups: How many groups were asked about.
        blocks: Of its past, as `blocks_of` gives them.
    """
    whole = logit(np.array([raw_score]))[0]
    found = logit(answers)
    alone, nothing = found[groups : 2 * groups], found[2 * groups] if groups else 0.0
    moved = ((whole - found[:groups]) + (alone - nothing)) / 2
    past = whole - found[len(found) - len(blocks) :]
    return Measured(
        contributions=tuple(np.nan_to_num(moved).tolist()),
        past=tuple(
            PastContribution(newest_steps_back=newest, oldest_steps_back=oldest, contribution=value)
            for (newest, oldest), value in zip(blocks, np.nan_to_num(past).tolist(), strict=True)
        ),
    )


def blocks_of(sequence: FloatArray) -> list[tuple[int, int]]:
    """Return the blocks of past transactions that a sequence has, float32 [T, C]."""
    steps = int((sequence[:-1, _SECONDS_BEFORE] >= 0).sum())
    return [(newest, min(oldest, steps)) for newest, oldest in PAST_BLOCKS if newest <= steps]


def are_first(sequences: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which rows are the first of their cards: nothing but padding before them, bool [n]."""
    return np.asarray(sequences[:, -2, _SECONDS_BEFORE] < 0)


def without_steps(sequence: FloatArray, newest: int, oldest: int) -> FloatArray:
    """Return a sequence without some steps, counted back from the last: as if they never were.

    Older steps move up, and padding takes their place, float32 [T, C].
    """
    shorter = np.zeros_like(sequence)
    shorter[:, _SECONDS_BEFORE] = _PADDING
    end, begin = len(sequence) - newest, len(sequence) - 1 - oldest
    kept = np.concatenate([sequence[:begin], sequence[end:]])
    shorter[len(sequence) - len(kept) :] = kept
    return shorter
