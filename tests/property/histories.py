"""Random histories of a few cards and entities, made so that rows meet at the buckets' borders."""

from __future__ import annotations

import math
from typing import NamedTuple

from hypothesis import strategies as st

from tests.property.rows import DAY_MS, HOUR_MS, MINUTE_MS, NEVER, NONE, Row

# How many there are of each: a card, or an entity of one kind, is a number below this.
CARDS, ENTITIES = 2, 3

# Any moment will do that is neither at the edge of a day nor at that of an hour; and the first
# moment of a Saturday, UTC, which is at the edge of all buckets.
_BEGINS_MS = (1_700_000_000_000 + 123_456, 19_678 * DAY_MS)

# A history lives on one scale, so that its rows meet at the borders of the buckets of that width:
# the width, and how many of them a row may lie before its arrival.
_SCALES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (MINUTE_MS, (0, 1, 2, 4, 5, 59, 60, 61, 62, 63, 64, 65)),
    (5 * MINUTE_MS, (0, 1, 10, 11, 12, 13)),
    (HOUR_MS, (0, 1, 2, 5, 6, 7, 11, 12, 13, 22, 23, 24, 25, 26, 27)),
    (DAY_MS, (0, 0, 0, 1, 7)),
    (DAY_MS, (0, 0, 0, 0, 0, 0, 0, 1)),
    (DAY_MS, (0, 1, 6, 7, 8, 28, 29, 30, 31, 32, 33, 37, 39, 40, 41)),
)
_JITTERS_MS = (0, 0, 0, 1, 59_999, 31 * MINUTE_MS)
# Units between two arrivals.
_STEPS = (0, 0, 1, 1, 2, 7)
# One silence in a history, at the expiry of a card's state and beside it.
_SILENCES_MS = tuple(90 * DAY_MS + more for more in (-DAY_MS, 0, 1, DAY_MS))

# Days from a transaction to its fraud label, then from one change of the label to the next.
# Days after its event it is read: when the day is settled, after the 8th.
_LABELS_D: tuple[tuple[int, ...], ...] = (
    *((),) * 8,
    *((days,) for days in (0, 0, 1, 6, 7, 8, 9, 12)),
    (1, 6),
    (0, 7, 1),
    (8, 1, 8),
)

# At three times the usual and beside it; at and above what float32 and 32 bits hold; nothing.
_AMOUNTS = (100, 100, 100, 110, 299, 300, 301, 900, 2**24 + 1, 2**32 + 1, 10**13 - 1, 0)
_PLACES = (
    (math.nan, math.nan),
    (51.5074, -0.1278),  # London
    (51.50741, -0.12781),  # a metre beside it
    (48.8566, 2.3522),  # Paris
    (-18.1248, 178.4501),  # Suva, and on the other side of the date line
    (21.3069, -157.8583),  # Honolulu
    (-34.6037, -58.3816),  # Buenos Aires
    (90.0, 0.0),
    (0.0, 0.0),
)

_ENTITY = st.sampled_from([0, 0, 1, 2, NONE])


class _Shape(NamedTuple):
    """What is drawn for one row: its own fields, and when it comes in units of the scale."""

    card: int
    entities: tuple[int, int, int, int, int]
    country: str
    place: tuple[float, float]
    step: int
    jitter_ms: int
    delay: int
    amount: int
    kind: int
    channel: int
    mcc: int
    utc_offset: int
    labels_d: tuple[int, ...]


_SHAPES = st.builds(
    _Shape,
    st.sampled_from([0, 0, 0, 1]),
    st.tuples(*(_ENTITY,) * 5),
    st.sampled_from(["", "GB", "GB", "FR", "US"]),
    st.sampled_from(_PLACES),
    st.sampled_from(_STEPS),
    st.sampled_from(_JITTERS_MS),
    st.one_of(st.just(0), st.integers(0, 14)),
    st.one_of(st.sampled_from(_AMOUNTS), st.integers(1, 10**5)),
    st.sampled_from([1, 1, 1, 1, 2, 3, 4]),
    st.integers(1, 5),
    st.sampled_from([0, 5411, 9999]),
    st.sampled_from([-720, -60, 0, 330, 840]),
    st.sampled_from(_LABELS_D),
)


def _changes(event_ms: int, labels_d: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the arrivals of a row's label changes: fraud, then genuine and fraud by turns."""
    changes = []
    arrival_ms = event_ms
    for place, days in enumerate(labels_d):
        arrival_ms += days * DAY_MS
        changes.append((arrival_ms, -1 if place % 2 else 1))
    return changes


def _row(shape: _Shape, event_ms: int, append_ms: int) -> Row:
    customer, terminal, merchant, device, ip = shape.entities
    latitude, longitude = shape.place
    changes = _changes(event_ms, shape.labels_d)
    return Row(
        card=shape.card,
        customer=customer,
        terminal=terminal,
        merchant=merchant,
        device=device,
        ip=ip,
        country=shape.country,
        latitude=latitude,
        longitude=longitude,
        event_ms=event_ms,
        append_ms=append_ms,
        amount=shape.amount,
        kind=shape.kind,
        channel=shape.channel,
        mcc=shape.mcc,
        utc_offset=shape.utc_offset,
        label_ms=changes[0][0] if changes else NEVER,
        flips=tuple(changes[1:]),
    )


@st.composite
def histories(draw: st.DrawFn, most: int = 60) -> list[Row]:
    """Rows in arrival order, at times long after they happened, at times after a long silence."""
    unit_ms, delays = draw(st.sampled_from(_SCALES))
    append_ms = draw(st.sampled_from(_BEGINS_MS))
    size = draw(st.integers(1, most))
    silence_at, silence_ms = draw(st.integers(0, 4 * size)), draw(st.sampled_from(_SILENCES_MS))
    rows: list[Row] = []
    for place, shape in enumerate(draw(st.lists(_SHAPES, min_size=size, max_size=size))):
        append_ms += silence_ms if place == silence_at else shape.step * unit_ms + shape.jitter_ms
        event_ms = append_ms - delays[shape.delay % len(delays)] * unit_ms
        rows.append(_row(shape, event_ms, append_ms))
    return rows
