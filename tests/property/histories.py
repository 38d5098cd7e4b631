"""Random histories of a few cards and terminals, and the same as the kernel takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from fraudstream.features.catalogue import FEATURE_NAMES, kernel_plan
from fraudstream.features.history import History
from fraudstream.features.kernel import advance_cards, empty_outputs
from fraudstream.features.state import CARD_STATE, LABEL_STATE, ROW, TERMINAL_STATE
from tests.property.recount import DAY_MS, HOUR_MS, MINUTE_MS, NEVER, NO_TERMINAL, Row

# Any moment will do; this one is neither at the edge of a day nor at that of an hour.
BEGIN_MS = 1_700_000_000_000 + 123_456
CARDS, TERMINALS = 2, 2

# A history lives on one scale, so that its rows meet at the borders of the buckets of that width:
# the width, and how many of them a row may lie before its arrival.
_SCALES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (MINUTE_MS, (0, 1, 2, 4, 5, 59, 60, 62, 63, 64, 65)),
    (5 * MINUTE_MS, (0, 1, 10, 11, 12, 13)),
    (HOUR_MS, (0, 1, 2, 22, 23, 24, 25, 26, 27)),
    (DAY_MS, (0, 0, 0, 1, 7)),
    (DAY_MS, (0, 1, 6, 7, 8, 28, 29, 30, 31, 37, 39, 40, 41)),
)
_JITTERS_MS = (0, 0, 1, 59_999, 31 * MINUTE_MS)
# Units between two arrivals.
_STEPS = (0, 0, 1, 1, 2, 7)
# Days between a transaction and its fraud label; most have none.
_LABELS_D = (NEVER, NEVER, NEVER, 0, 1, 6, 7, 8, 12)
_LONG_SILENCE_D = 91

_SHAPES = st.tuples(
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, 0, 1, NO_TERMINAL]),
    st.sampled_from(_STEPS),
    st.sampled_from(_JITTERS_MS),
    st.one_of(st.just(0), st.integers(0, 12)),
    st.integers(1, 10**7),
    st.sampled_from([1, 1, 1, 1, 2, 3, 4]),
    st.integers(1, 5),
    st.sampled_from([0, 5411, 9999]),
    st.sampled_from([-720, -60, 0, 330, 840]),
    st.sampled_from(_LABELS_D),
)


@st.composite
def histories(draw: st.DrawFn, most: int = 60) -> list[Row]:
    """Rows in arrival order, at times long after they happened, at times after a long silence."""
    unit_ms, delays = draw(st.sampled_from(_SCALES))
    size = draw(st.integers(1, most))
    silence_at = draw(st.integers(0, 4 * size))
    rows: list[Row] = []
    append_ms = BEGIN_MS
    for place, shape in enumerate(draw(st.lists(_SHAPES, min_size=size, max_size=size))):
        card, terminal, step, jitter_ms, delay, amount, kind, channel, mcc, local, label_d = shape
        append_ms += step * unit_ms + jitter_ms
        append_ms += _LONG_SILENCE_D * DAY_MS if place == silence_at else 0
        event_ms = append_ms - delays[delay % len(delays)] * unit_ms
        label_ms = NEVER if label_d == NEVER or kind != 1 else event_ms + label_d * DAY_MS
        rows.append(
            Row(card, terminal, event_ms, append_ms, amount, kind, channel, mcc, local, label_ms)
        )
    return rows


def terminal_hashes(rows: Sequence[Row]) -> npt.NDArray[np.uint64]:
    """Return a stable 64-bit stand-in of each row's terminal, 0 for none."""
    numbers = [0 if row.terminal == NO_TERMINAL else 2**63 + row.terminal for row in rows]
    return np.array(numbers, np.uint64)


def packed(rows: Sequence[Row]) -> npt.NDArray[np.void]:
    """Return rows as the kernel reads them, dtype `ROW` [B]."""
    out = np.zeros(len(rows), ROW)
    out["terminal"] = terminal_hashes(rows)
    out["event_ms"] = [row.event_ms for row in rows]
    out["amount"] = [row.amount for row in rows]
    out["kind"] = [row.kind for row in rows]
    out["channel"] = [row.channel for row in rows]
    out["mcc"] = [row.mcc for row in rows]
    out["utc_offset"] = [row.utc_offset for row in rows]
    return out


def ints(numbers: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return numbers as int64 [n]."""
    return np.array(numbers, np.int64)


def history_of(rows: Sequence[Row]) -> History:
    """Return rows as the offline driver takes them."""
    return History(
        card=ints([row.card for row in rows]),
        terminal=ints([row.terminal for row in rows]),
        terminal_hash=terminal_hashes(rows),
        event_time_ms=ints([row.event_ms for row in rows]),
        append_time_ms=ints([row.append_ms for row in rows]),
        amount_reference_minor=ints([row.amount for row in rows]),
        kind=np.array([row.kind for row in rows], np.int8),
        channel=np.array([row.channel for row in rows], np.int8),
        mcc=np.array([row.mcc for row in rows], np.int16),
        utc_offset_minutes=np.array([row.utc_offset for row in rows], np.int16),
        label_arrival_ms=ints([row.label_ms for row in rows]),
        is_fraud=np.array([row.label_ms != NEVER for row in rows], np.bool_),
    )


class StreamedStates:
    """States of all cards and terminals, moved on by the drivers that the stream uses."""

    def __init__(self) -> None:
        self.cards = np.zeros(CARDS, CARD_STATE)
        self.terminals = np.zeros(TERMINALS, TERMINAL_STATE)
        self.labels = np.zeros(TERMINALS, LABEL_STATE)

    def advance(
        self, rows: Sequence[Row]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Move the cards on by one batch; return its vectors and sequences."""
        vectors, sequences = empty_outputs(len(rows))
        advance_cards(
            self.cards,
            ints([row.card for row in rows]),
            packed(rows),
            self.terminals,
            self.labels,
            ints([row.terminal for row in rows]),
            kernel_plan(),
            vectors,
            sequences,
        )
        return vectors, sequences


def by_name(vector: npt.NDArray[np.float32]) -> dict[str, float]:
    """Return one vector float32 [F] by the names of its features."""
    return dict(zip(FEATURE_NAMES, vector.tolist(), strict=True))
