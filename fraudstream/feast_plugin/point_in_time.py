"""The point-in-time join: for each question the last row at or before its time. Pure.

Q questions, N rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Timed:
    """Rows or questions: whose they are, and when.

    Attributes:
        key: int64, number of the entity key; negative for none.
        time_ns: int64, event time, epoch nanoseconds.
    """

    key: Ints
    time_ns: Ints


def last_rows(rows: Timed, questions: Timed, ttl_ns: int = 0, known_ns: Ints | None = None) -> Ints:
    """Return the index of the last row at or before each question, int64 [Q]; -1 for none.

    Args:
        rows: N rows; of equal key and time the last in order is the last.
        questions: Q questions, in any order; a question without key finds none.
        ttl_ns: How much older than the question a row may be; 0 for any age.
        known_ns: When each row became known, int64 [N]: later than the question, it is passed over.

    >>> rows = Timed(np.array([7, 7, 7]), np.array([10, 20, 20]))
    >>> last_rows(rows, Timed(np.array([7, 7, 7, 8]), np.array([9, 10, 30, 30]))).tolist()
    [-1, 0, 2, -1]
    """
    order = np.lexsort((rows.time_ns, rows.key))
    key, time_ns = rows.key[order], rows.time_ns[order]
    index = _last_indices(Timed(key, time_ns), questions)
    index[questions.key < 0] = -1
    if known_ns is not None:
        index = _known_indices(index, key, known_ns[order], questions.time_ns)
    found = index >= 0
    if ttl_ns:
        found[found] = time_ns[index[found]] >= questions.time_ns[found] - ttl_ns
    answer: Ints = np.full(len(index), -1, np.int64)
    answer[found] = order[index[found]]
    return answer


def _last_indices(rows: Timed, questions: Timed) -> Ints:
    """Return indices among sorted rows, -1 where the last row before belongs to another key."""
    count = len(rows.key)
    is_question = np.repeat([False, True], [count, len(questions.key)])
    key = np.concatenate([rows.key, questions.key])
    time_ns = np.concatenate([rows.time_ns, questions.time_ns])
    order = np.lexsort((is_question, time_ns, key))
    last = np.maximum.accumulate(np.where(order < count, order, -1))
    index: Ints = np.full(len(questions.key), -1, np.int64)
    asked = order >= count
    index[order[asked] - count] = last[asked]
    return _same_key(index, rows.key, questions.key)


def _known_indices(index: Ints, key: Ints, known_ns: Ints, asked_ns: Ints) -> Ints:
    """Go back from each index to a row of its key that was known when it was asked for."""
    asked_key = np.where(index >= 0, key[index], -1) if len(key) else index
    while True:
        late = np.flatnonzero(index >= 0)
        late = late[known_ns[index[late]] > asked_ns[late]]
        if not len(late):
            return index
        index[late] -= 1
        index = _same_key(index, key, asked_key)


def _same_key(index: Ints, key: Ints, asked_key: Ints) -> Ints:
    found = np.flatnonzero(index >= 0)
    index[found[key[index[found]] != asked_key[found]]] = -1
    return index
