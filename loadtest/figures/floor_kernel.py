"""The floor of the offline kernel: a loop that moves the same bytes and computes nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Words = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@njit(nogil=True, cache=True)
def _touch(cards, card_of, terminals, terminal_of, vectors, sequences):
    for position in range(card_of.shape[0]):
        card = cards[card_of[position]]
        for word in range(card.shape[0]):
            card[word] += 1
        terminal = terminals[terminal_of[position]]
        for word in range(terminal.shape[0]):
            terminal[word] += 1
        vector, sequence = vectors[position], sequences[position]
        for place in range(vector.shape[0]):
            vector[place] = card[0]
        for place in range(sequence.shape[0]):
            sequence[place] = terminal[0]


def touch_bytes(
    states: tuple[Words, Words], state_of: tuple[Words, Words], outputs: tuple[Floats, Floats]
) -> None:
    """Read and write a card's and a terminal's state for each row, and write both outputs.

    Args:
        states: States of cards and of terminals, as int64 [n, words], changed.
        state_of: Which of them each row has, int64 [B] each.
        outputs: float32 [B, F] and float32 [B, T * C].

    >>> cards, terminals = np.zeros((1, 2), np.int64), np.zeros((1, 3), np.int64)
    >>> one = np.zeros(1, np.int64)
    >>> out = np.zeros((1, 2), np.float32), np.zeros((1, 4), np.float32)
    >>> touch_bytes((cards, terminals), (one, one), out)
    >>> cards.tolist(), terminals.tolist()
    ([[1, 1]], [[1, 1, 1]])
    """
    _touch(states[0], state_of[0], states[1], state_of[1], *outputs)


def words_of(states: npt.NDArray[np.void]) -> Words:
    """Return the bytes of packed states as int64 [n, words], without a copy.

    >>> words_of(np.zeros(2, np.dtype([("a", "<i8"), ("b", "<i4", (2,))]))).shape
    (2, 2)
    """
    return states.view(np.int64).reshape(len(states), -1)
