"""Features at authorisation: the kernel over state and pending rows; the state stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fraudstream.features.codec import CARD_VALUE, EntityKeys, empty_unsound, unpack_values
from fraudstream.features.kernel import advance_cards, empty_outputs
from fraudstream.features.state import ROW
from fraudstream.shard import DoorAnswer
from fraudstream.shared_entities import SharedView


def preview_rows(
    answers: Sequence[DoorAnswer],
    rows: npt.NDArray[np.void],
    keys: Sequence[EntityKeys],
    shared: SharedView,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Compute the features of admitted rows: what is before each is its state, then its pending.

    Args:
        answers: What `StateStore.admit` said of each row.
        rows: `ROW` [B].
        keys: Keys of each row's shared entities.
        shared: States of these entities.

    Returns:
        Vectors float32 [B, F] and sequences float32 [B, T, C]. The stored states do not change.
    """
    values = unpack_values([answer.state for answer in answers], CARD_VALUE)
    empty_unsound(values)
    states = np.ascontiguousarray(values["state"])
    before = [len(answer.pending) for answer in answers]
    own = np.cumsum([count + 1 for count in before]) - 1
    walked = np.zeros(int(own[-1]) + 1, ROW)
    state_of = np.repeat(np.arange(len(answers)), [count + 1 for count in before])
    for place, answer in zip(own, answers, strict=True):
        for back, entry in enumerate(reversed(answer.pending), start=1):
            walked[place - back] = np.frombuffer(entry.row, ROW)[0]
    walked[own] = rows
    places = np.full(len(walked), -1, np.int64)
    places[own] = np.arange(len(own))
    outputs = empty_outputs(len(answers))
    advance_cards(states, state_of.astype(np.int64), walked, outputs, places)
    shared.write_features(keys, rows, outputs[0])
    return outputs
