"""Features at authorisation: the kernel over state and pending rows; the state stays.

Budget: 100 microseconds a call and 10 a row. Most of a call is numpy's, so there are few calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.state import packed_rows
from fraudstream.features.stored_values import CARD_VALUE, EntityKeys, empty_unsound, unpack_values
from fraudstream.store.entity_reader import SharedView
from fraudstream.store.shard import ROW_BYTES, DoorAnswer

_NOWHERE: Final = -1


@dataclass(frozen=True, slots=True)
class Preview:
    """What the kernel computed for admitted rows.

    Attributes:
        vectors: float32 [B, F].
        sequences: float32 [B, T, C].
        newest_ms: Event time of the newest row that is before each one, 0 for none.
    """

    vectors: npt.NDArray[np.float32]
    sequences: npt.NDArray[np.float32]
    newest_ms: list[int]


def preview_rows(
    answers: Sequence[DoorAnswer],
    rows: Sequence[bytes],
    keys: Sequence[EntityKeys],
    shared: SharedView,
) -> Preview:
    """Compute the features of admitted rows: what is before each is its state, then its pending.

    Args:
        answers: What `StateStore.admit` said of each row.
        rows: The packed `ROW` of each.
        keys: Keys of each row's shared entities.
        shared: States of these entities.

    Returns:
        Their features. The stored states do not change.
    """
    states = _sound_states(answers)
    newest_ms: list[int] = states["previous_ms"].tolist()
    walked: list[bytes] = []
    state_of: list[int] = []
    indices: list[int] = []
    for index, (answer, row) in enumerate(zip(answers, rows, strict=True)):
        # A row of another size is none that a door of ours left.
        waiting = [entry.row for entry in answer.pending if len(entry.row) == ROW_BYTES]
        if waiting:
            newest_ms[index] = max(newest_ms[index], *packed_rows(waiting)["event_ms"].tolist())
            walked += waiting
            state_of += [index] * len(waiting)
            indices += [_NOWHERE] * len(waiting)
        walked.append(row)
        state_of.append(index)
        indices.append(index)
    outputs = empty_outputs(len(answers))
    numbers = np.array((state_of, indices), np.int64)
    advance_cards(states, numbers[0], packed_rows(walked), outputs, numbers[1])
    shared.write_features(keys, packed_rows(rows), outputs[0])
    return Preview(*outputs, newest_ms)


def _sound_states(answers: Sequence[DoorAnswer]) -> npt.NDArray[np.void]:
    """Return the states of the answers' cards, `CARD_STATE` [B]; empty where one is damaged."""
    values = unpack_values([answer.state for answer in answers], CARD_VALUE)
    empty_unsound(values)
    return np.ascontiguousarray(values["state"])
