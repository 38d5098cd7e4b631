"""The floor of the offline kernel: a loop that moves the same bytes and computes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

Words = npt.NDArray[np.int64]
HalfWords = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MovedBytes:
    """What B rows make the kernels move: states int64 [n, words], whose each row has int64 [B].

    Labels and the rows themselves, int32 [B, words], are read only.
    """

    cards: Words
    terminals: Words
    labels: Words
    card_of: Words
    terminal_of: Words
    rows: HalfWords


# Indices rather than slices: a slice of an array costs more than the bytes of a row.
@njit(nogil=True, cache=True)
def _touch(states, state_of, rows, vectors, sequences):
    cards, terminals, labels = states
    card_of, terminal_of = state_of
    for position in range(card_of.shape[0]):
        owner = card_of[position]
        read = np.int64(0)
        for word in range(rows.shape[1]):
            read += rows[position, word]
        for word in range(labels.shape[1]):
            read += labels[owner, word]
        card = cards[owner]
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
        sequence[0] = read


def touch_bytes(moved: MovedBytes, outputs: tuple[Floats, Floats]) -> None:
    """Read each row, its card's labels, its card's and its terminal's state; write both states.

    The outputs, float32 [B, F] and [B, T * C], are written whole.

    >>> cards, terminals = np.zeros((1, 2), np.int64), np.zeros((1, 3), np.int64)
    >>> one = np.zeros(1, np.int64)
    >>> moved = MovedBytes(cards, terminals, cards.copy(), one, one, np.zeros((1, 1), np.int32))
    >>> touch_bytes(moved, (np.zeros((1, 2), np.float32), np.zeros((1, 4), np.float32)))
    >>> cards.tolist(), terminals.tolist()
    ([[1, 1]], [[1, 1, 1]])
    """
    states = (moved.cards, moved.terminals, moved.labels)
    _touch(states, (moved.card_of, moved.terminal_of), moved.rows, *outputs)


def words_of(states: npt.NDArray[np.void]) -> Words:
    """Return the bytes of packed states as int64 [n, words], without a copy.

    >>> words_of(np.zeros(2, np.dtype([("a", "<i8"), ("b", "<i4", (2,))]))).shape
    (2, 2)
    """
    return states.view(np.int64).reshape(len(states), -1)
