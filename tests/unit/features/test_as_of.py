"""The point-in-time join against a search that looks at every row."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.feast_plugin.point_in_time import Timed, last_rows

_ROW = st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 9))
_QUESTION = st.tuples(st.integers(-1, 3), st.integers(-1, 11))


@given(st.lists(_ROW, max_size=12), st.lists(_QUESTION, max_size=8), st.integers(0, 4))
def test_each_question_gets_the_last_row_at_or_before_it(
    rows: list[tuple[int, int, int]], questions: list[tuple[int, int]], ttl: int
) -> None:
    """Last is by event time, then by order; too old, unknown or of another key does not count."""
    key, at, known = (np.array([row[place] for row in rows], np.int64) for place in range(3))
    asked = Timed(*(np.array([q[place] for q in questions], np.int64) for place in range(2)))

    plain = last_rows(Timed(key, at), asked, ttl)
    then_known = last_rows(Timed(key, at), asked, ttl, known)

    assert plain.tolist() == [_search(rows, question, ttl, False) for question in questions]
    assert then_known.tolist() == [_search(rows, question, ttl, True) for question in questions]


def _search(
    rows: list[tuple[int, int, int]], question: tuple[int, int], ttl: int, is_known_only: bool
) -> int:
    key, time = question
    found = -1
    for place, (row_key, at, known) in enumerate(rows):
        if row_key != key or at > time or (is_known_only and known > time):
            continue
        if found < 0 or at >= rows[found][1]:
            found = place
    return -1 if found >= 0 and ttl and rows[found][1] < time - ttl else found
