"""How a card's features are computed: pure functions over packed states, compiled by Numba.

Rows go in order; a row's features are the state before it plus the row itself, then the state
moves on. Sums are int64, no fastmath, so the same input gives the same bits on one CPU class.
Everything is in one file, since Numba's cache looks at the file of the function alone.
Cost: about 1.5 microseconds a row. Axes: B rows, F features, T steps, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from fraudstream.features.catalogue import (
    CATALOGUE,
    HOURS_OF_DAY,
    SEQUENCE_CHANNELS,
    SEQUENCE_LENGTH,
    Aggregation,
    Feature,
)
from fraudstream.features.state import (
    CARD_ALL,
    CARD_BUCKETS,
    CARD_START,
    CARD_WIDTH_MS,
    DAY_MS,
    EXPIRY_D,
    HOUR_MS,
    MINUTE_MS,
    VALUES,
)

_T = SEQUENCE_LENGTH
_MASK = _T - 1  # T is a power of two
_PURCHASE = 1  # TRANSACTION_KIND_PURCHASE
_ECOMMERCE, _MOTO, _RECURRING = 2, 4, 5  # CHANNEL_*: the card is not present
_WIDTH_MS = np.array(CARD_WIDTH_MS, dtype=np.int64)
_BUCKETS = np.array(CARD_BUCKETS, dtype=np.int64)
_START = np.array(CARD_START, dtype=np.int64)
_EXPIRY_MS = EXPIRY_D * DAY_MS
# How new a card is matters for a month; an age without bound would only tell the calendar.
_NOT_NEW_S = 30.0 * DAY_MS / 1000.0
_NIGHT_ENDS_H = 7.0
_SATURDAY = 5
_EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday; Monday is 0
_EARTH_KM = 6371.0
_CLIP = 3.0  # a purchase counts as no more than so many times the usual amount
_MEMORY = 200  # purchases that make the usual amount
_UNUSUAL = np.float32(3.0)
_MCC = VALUES.index("mcc")
_TABLE = 64  # slots of the table of distinct values, twice the ring
_TABLE_SHIFT = 26  # 32 bits less those of a slot
_GOLDEN = 2654435761  # Knuth's multiplicative hash: 2^32 over the golden ratio

# The catalogue's aggregations as constants that Numba folds.
_COUNT = int(Aggregation.COUNT)
_SUM = int(Aggregation.SUM)
_MEAN = int(Aggregation.MEAN)
_MAX = int(Aggregation.MAX)
_RATIO_TO_MEAN = int(Aggregation.RATIO_TO_MEAN)
_SINCE_FIRST = int(Aggregation.SECONDS_SINCE_FIRST)
_AMOUNT = int(Aggregation.AMOUNT)
_IS_NIGHT = int(Aggregation.IS_NIGHT)
_IS_WEEKEND = int(Aggregation.IS_WEEKEND)
_SINCE_PREVIOUS = int(Aggregation.SECONDS_SINCE_PREVIOUS)
_RATIO_TO_CLIPPED_MEAN = int(Aggregation.RATIO_TO_CLIPPED_MEAN)
_STD = int(Aggregation.STD)
_UNUSUAL_COUNT = int(Aggregation.UNUSUAL_COUNT)
_LARGEST_RATIO = int(Aggregation.LARGEST_RATIO)
_NIGHT_SHARE = int(Aggregation.NIGHT_SHARE)
_WEEKEND_SHARE = int(Aggregation.WEEKEND_SHARE)
_NOT_PRESENT_SHARE = int(Aggregation.CARD_NOT_PRESENT_SHARE)
_KM = int(Aggregation.KM_FROM_PREVIOUS)
_DISTINCT = int(Aggregation.DISTINCT_TERMINALS)
_IS_NEW = int(Aggregation.IS_NEW_TERMINAL)

# What one row is told about its card besides the windows: the numbers of `_look`.
_NIGHT, _WEEKEND, _NOT_PRESENT, _USUAL, _DISTANCE, _SPEED = range(6)
_LOOKS = 6

_SCRATCH = np.dtype(
    [
        ("count", "<i8", (CARD_ALL,)),
        ("spend", "<i8", (CARD_ALL,)),
        ("largest", "<f8", (CARD_ALL,)),
        ("age_ms", "<i8", (_T,)),
        ("amount", "<f4", (_T,)),
        ("look", "<f8", (_LOOKS,)),
        ("table", "<i8", (_TABLE,)),
        ("epoch", "<i8"),
    ]
)


@njit(nogil=True, cache=True)
def _ratio(part, whole):
    """Return `part / whole`, NaN where `whole` is 0 or missing."""
    if whole == 0 or whole != whole:  # NaN is the only number unequal to itself
        return np.nan
    return part / whole


@njit(nogil=True, cache=True)
def _clear_passed(buckets, start, size, head, bucket):
    """Zero the slots that the head passes on its way from `head` to `bucket`."""
    first = head + 1
    if bucket - head > size:
        first = bucket - size + 1
    for number in range(first, bucket + 1):
        buckets[start + number % size] = 0


@njit(nogil=True, cache=True)
def _local_hour(event_ms, utc_offset):
    """Return the hour of the local day, 0 to 24."""
    return ((event_ms + utc_offset * MINUTE_MS) % DAY_MS) / HOUR_MS


@njit(nogil=True, cache=True)
def _is_night(event_ms, utc_offset):
    """Return 1 between midnight and 7 in the morning, local time, else 0."""
    return 1 if _local_hour(event_ms, utc_offset) < _NIGHT_ENDS_H else 0


@njit(nogil=True, cache=True)
def _is_weekend(event_ms, utc_offset):
    """Return 1 on a local Saturday or Sunday, else 0."""
    day = (event_ms + utc_offset * MINUTE_MS) // DAY_MS
    return 1 if (day + _EPOCH_WEEKDAY) % 7 >= _SATURDAY else 0


@njit(nogil=True, cache=True)
def _expire(state, event_ms):
    """Make a state as new that nothing touched for longer than the expiry."""
    if state["rows"] == 0 or event_ms - state["previous_ms"] <= _EXPIRY_MS:
        return
    state["previous_ms"] = 0
    state["first_ms"] = 0
    state["rows"] = 0
    state["place_ms"] = 0
    state["latitude"] = 0
    state["longitude"] = 0
    state["usual"] = 0
    state["purchases"] = 0
    state["head"][:] = 0
    state["count"][:] = 0
    state["spend"][:] = 0
    state["largest"][:] = 0
    state["ring_event_ms"][:] = 0
    state["ring_amount"][:] = 0
    state["ring_ratio"][:] = 0
    state["ring_value"][:] = 0
    state["ring_hour"][:] = 0
    state["ring_is_night"][:] = 0
    state["ring_is_weekend"][:] = 0
    state["ring_is_remote"][:] = 0
    state["ring_kind"][:] = 0
    state["ring_channel"][:] = 0


@njit(nogil=True, cache=True)
def _count_purchase(state, event_ms, amount):
    """Add a purchase to the buckets of its event time."""
    for level in range(3):
        size = _BUCKETS[level]
        start = _START[level]
        bucket = event_ms // _WIDTH_MS[level]
        head = state["head"][level]
        if bucket > head:
            _clear_passed(state["count"], start, size, head, bucket)
            _clear_passed(state["spend"], start, size, head, bucket)
            _clear_passed(state["largest"], start, size, head, bucket)
            state["head"][level] = bucket
            head = bucket
        if bucket > head - size:
            slot = start + bucket % size
            state["count"][slot] += 1
            state["spend"][slot] += amount
            state["largest"][slot] = max(state["largest"][slot], np.float32(amount))


@njit(nogil=True, cache=True)
def _advance(state, row, ratio):
    """Move a card's state on by one row; `ratio` is its amount against the usual one."""
    event_ms = row["event_ms"]
    if row["kind"] == _PURCHASE:
        _count_purchase(state, event_ms, row["amount"])
        _move_usual(state, np.float64(row["amount"]))
    place = state["rows"] & _MASK
    state["ring_event_ms"][place] = event_ms
    state["ring_amount"][place] = row["amount"]
    state["ring_ratio"][place] = ratio
    for value in range(6):
        state["ring_value"][value, place] = row["value"][value]
    state["ring_hour"][place] = _local_hour(event_ms, row["utc_offset"])
    state["ring_is_night"][place] = _is_night(event_ms, row["utc_offset"])
    state["ring_is_weekend"][place] = _is_weekend(event_ms, row["utc_offset"])
    state["ring_is_remote"][place] = row["channel"] in (_ECOMMERCE, _MOTO, _RECURRING)
    state["ring_kind"][place] = row["kind"]
    state["ring_channel"][place] = row["channel"]
    if not np.isnan(row["latitude"]) and not np.isnan(row["longitude"]):
        state["place_ms"] = event_ms
        state["latitude"] = row["latitude"]
        state["longitude"] = row["longitude"]
    if state["rows"] == 0 or event_ms < state["first_ms"]:
        state["first_ms"] = event_ms
    state["previous_ms"] = max(state["previous_ms"], event_ms)
    state["rows"] += 1


@njit(nogil=True, cache=True)
def _sum_windows(state, event_ms, scratch):
    """Sum the newest k + 1 buckets up to the row's, for every k of every level."""
    counts, spends, largests = state["count"], state["spend"], state["largest"]
    for level in range(3):
        size = _BUCKETS[level]
        start = _START[level]
        bucket = event_ms // _WIDTH_MS[level]
        head = state["head"][level]
        slot = bucket % size
        count = 0
        spend = 0
        largest = 0.0
        for back in range(size):
            if head - size < bucket - back <= head:
                count += counts[start + slot]
                spend += spends[start + slot]
                largest = max(largest, np.float64(largests[start + slot]))
            scratch["count"][start + back] = count
            scratch["spend"][start + back] = spend
            scratch["largest"][start + back] = largest
            slot = size - 1 if slot == 0 else slot - 1


@njit(nogil=True, cache=True)
def _ratio_to_usual(state, row):
    """Return a row's amount against the card's usual one, NaN for a card without purchases."""
    return _ratio(np.float64(row["amount"]), state["usual"])


@njit(nogil=True, cache=True)
def _move_usual(state, amount):
    """Move a card's usual amount on by a purchase: a clipped mean that forgets slowly."""
    state["purchases"] += 1
    usual = state["usual"]
    if usual == 0.0:
        state["usual"] = amount
    else:
        weight = min(state["purchases"], _MEMORY)
        state["usual"] = usual + (min(amount, _CLIP * usual) - usual) / weight


@njit(nogil=True, cache=True)
def _distance_km(latitude, longitude, other_latitude, other_longitude):
    """Return the great-circle distance between two places in degrees (haversine)."""
    north = np.radians(np.float64(latitude))
    other_north = np.radians(np.float64(other_latitude))
    half_north = (other_north - north) / 2.0
    half_east = np.radians(np.float64(other_longitude) - np.float64(longitude)) / 2.0
    part = np.sin(half_north) ** 2 + np.cos(north) * np.cos(other_north) * np.sin(half_east) ** 2
    return 2.0 * _EARTH_KM * np.arcsin(np.sqrt(min(1.0, part)))


@njit(nogil=True, cache=True)
def _look_at_place(state, row, look):
    """Write how far and how quickly the card came from its last known place."""
    look[_DISTANCE] = np.nan
    look[_SPEED] = np.nan
    has_place = not np.isnan(row["latitude"]) and not np.isnan(row["longitude"])
    if not has_place or state["place_ms"] == 0:
        return
    km = _distance_km(state["latitude"], state["longitude"], row["latitude"], row["longitude"])
    took_ms = max(abs(row["event_ms"] - state["place_ms"]), MINUTE_MS)
    look[_DISTANCE] = km
    look[_SPEED] = km / (took_ms / HOUR_MS)


@njit(nogil=True, cache=True)
def _look_at_ring(state, event_ms, scratch):
    """Write the ages of the ring's rows, -1 for none, and the shares of their kinds."""
    kept = min(state["rows"], _T)
    ages, at_ms = scratch["age_ms"], state["ring_event_ms"]
    for place in range(_T):
        ages[place] = event_ms - at_ms[place] if place < kept else -1
    nights, weekends = state["ring_is_night"], state["ring_is_weekend"]
    remotes = state["ring_is_remote"]
    night = np.int32(0)
    weekend = np.int32(0)
    remote = np.int32(0)
    for place in range(_T):
        night += nights[place]
        weekend += weekends[place]
        remote += remotes[place]
    look = scratch["look"]
    look[_NIGHT] = _ratio(np.float64(night), np.float64(kept))
    look[_WEEKEND] = _ratio(np.float64(weekend), np.float64(kept))
    look[_NOT_PRESENT] = _ratio(np.float64(remote), np.float64(kept))


@njit(nogil=True, cache=True)
def _put(table, epoch, value):
    """Put a value into the table of distinct values; return 1 if it was not there, else 0."""
    key = (epoch << 32) | value
    slot = ((value * _GOLDEN) & 0xFFFFFFFF) >> _TABLE_SHIFT
    while table[slot] >> 32 == epoch:
        if table[slot] == key:
            return 0
        slot = (slot + 1) % _TABLE
    table[slot] = key
    return 1


@njit(nogil=True, cache=True)
def _distinct(state, row, value, window_ms, scratch):
    """Return how many values the recent rows and the row itself have."""
    scratch["epoch"] += 1
    epoch = scratch["epoch"]
    table, ages = scratch["table"], scratch["age_ms"]
    values = state["ring_value"]
    found = 0
    if row["value"][value] != 0:
        found = _put(table, epoch, np.int64(row["value"][value]))
    for place in range(_T):
        own = np.int64(values[value, place])
        if own != 0 and 0 <= ages[place] < window_ms:
            found += _put(table, epoch, own)
    return np.float64(found)


@njit(nogil=True, cache=True)
def _is_new(state, own, value):
    """Tell whether a value is not in the ring: 1.0, 0.0, or NaN for no value."""
    if own == 0:
        return np.nan
    seen = 0
    for place in range(_T):
        seen += state["ring_value"][value, place] == own
    return 0.0 if seen else 1.0


@njit(nogil=True, cache=True)
def _spread(state, window_ms, scratch):
    """Return the standard deviation of the recent purchases, NaN for fewer than two."""
    rows = state["rows"]
    kept = min(rows, _T)
    amounts = scratch["amount"]
    found = 0
    total = 0.0
    for step in range(kept):
        place = (rows - kept + step) & _MASK
        is_recent = 0 <= scratch["age_ms"][place] < window_ms
        if is_recent and state["ring_kind"][place] == _PURCHASE:
            amounts[found] = state["ring_amount"][place]
            total += np.float64(amounts[found])
            found += 1
    if found < 2:  # one purchase has no spread
        return np.nan
    mean = total / found
    squares = 0.0
    for place in range(found):
        squares += (np.float64(amounts[place]) - mean) ** 2
    return np.sqrt(squares / found)


@njit(nogil=True, cache=True)
def _recent_feature(aggregation, state, window_ms, scratch):
    """Return one feature of the ring's rows inside a window."""
    if aggregation == _STD:
        return _spread(state, window_ms, scratch)
    ages = scratch["age_ms"]
    ratios = state["ring_ratio"]
    if aggregation == _UNUSUAL_COUNT:
        found = 0
        for place in range(_T):
            found += 0 <= ages[place] < window_ms and ratios[place] > _UNUSUAL
        return np.float64(found)
    largest = np.float32(0.0)
    for place in range(_T):
        if 0 <= ages[place] < window_ms:
            largest = max(largest, ratios[place])
    return np.float64(largest)


@njit(nogil=True, cache=True)
def _seconds_since(state, event_ms, earlier_ms):
    """Return the seconds between two times, never negative; NaN for a card without rows."""
    if state["rows"] == 0:
        return np.nan
    return max(0.0, (event_ms - earlier_ms) / 1000.0)


@njit(nogil=True, cache=True)
def _row_feature(aggregation, state, row, scratch):
    """Return one feature of the row itself against its card."""
    event_ms, amount = row["event_ms"], np.float64(row["amount"])
    look = scratch["look"]
    if aggregation == _AMOUNT:
        return amount
    if aggregation == _SINCE_FIRST:
        return min(_seconds_since(state, event_ms, state["first_ms"]), _NOT_NEW_S)
    if aggregation == _SINCE_PREVIOUS:
        return _seconds_since(state, event_ms, state["previous_ms"])
    if aggregation == _RATIO_TO_CLIPPED_MEAN:
        return look[_USUAL]
    if aggregation == _IS_NIGHT:
        return np.float64(_is_night(event_ms, row["utc_offset"]))
    return np.float64(_is_weekend(event_ms, row["utc_offset"]))


@njit(nogil=True, cache=True)
def _window_feature(aggregation, slot, own, row, scratch):
    """Return one feature of a window; `own` is 1 where the row counts in it, else 0."""
    count, spend = scratch["count"][slot], scratch["spend"][slot]
    if aggregation == _RATIO_TO_MEAN:
        mean = _ratio(np.float64(spend), np.float64(count))
        return _ratio(np.float64(row["amount"]), mean)
    count += own
    spend += own * row["amount"]
    if aggregation == _COUNT:
        return np.float64(count)
    if aggregation == _SUM:
        return np.float64(spend)
    if aggregation == _MEAN:
        return _ratio(np.float64(spend), np.float64(count))
    if count == 0:
        return np.nan
    return max(scratch["largest"][slot], np.float64(own * row["amount"]))


@njit(nogil=True, cache=True)
def _write_vector(state, row, plan, vector, scratch):
    """Write a card's features of a row; `state` is the one before it."""
    event_ms = row["event_ms"]
    look = scratch["look"]
    _sum_windows(state, event_ms, scratch)
    _look_at_place(state, row, look)
    is_purchase = row["kind"] == _PURCHASE
    for position in range(plan.shape[0]):
        place, aggregation = plan[position, 0], plan[position, 1]
        level, span = plan[position, 2], plan[position, 3]
        if aggregation <= _RATIO_TO_MEAN:
            is_kept = event_ms // _WIDTH_MS[level] > state["head"][level] - _BUCKETS[level]
            own = 1 if is_purchase and is_kept else 0
            value = _window_feature(aggregation, _START[level] + span - 1, own, row, scratch)
        elif aggregation >= _IS_NEW:
            number = aggregation - _IS_NEW
            value = _is_new(state, row["value"][number], number)
        elif aggregation >= _DISTINCT:
            value = _distinct(state, row, aggregation - _DISTINCT, span, scratch)
        elif _STD <= aggregation <= _LARGEST_RATIO:
            value = _recent_feature(aggregation, state, span, scratch)
        elif _NIGHT_SHARE <= aggregation <= _NOT_PRESENT_SHARE:
            value = look[_NIGHT + aggregation - _NIGHT_SHARE]
        elif aggregation >= _KM:
            value = look[_DISTANCE + aggregation - _KM]
        else:
            value = _row_feature(aggregation, state, row, scratch)
        vector[place] = value


@njit(nogil=True, cache=True)
def _write_sequence(state, row, sequence):
    """Write the last T-1 rows of the ring and the row itself into `sequence` float32 [T, C]."""
    event_ms = row["event_ms"]
    rows = state["rows"]
    kept = min(rows, _T - 1)
    for step in range(_T - 1 - kept):
        sequence[step, :] = 0.0
        sequence[step, 1] = -1.0
    amounts, at_ms, hours = state["ring_amount"], state["ring_event_ms"], state["ring_hour"]
    kinds, channels, values = state["ring_kind"], state["ring_channel"], state["ring_value"]
    for back in range(kept):
        step = _T - 2 - back
        place = (rows - 1 - back) & _MASK
        sequence[step, 0] = amounts[place]
        sequence[step, 1] = max(0.0, (event_ms - at_ms[place]) / 1000.0)
        sequence[step, 2] = kinds[place]
        sequence[step, 3] = channels[place]
        sequence[step, 4] = values[_MCC, place]
        sequence[step, 5] = hours[place]
    sequence[_T - 1, 0] = row["amount"]
    sequence[_T - 1, 1] = 0.0
    sequence[_T - 1, 2] = row["kind"]
    sequence[_T - 1, 3] = row["channel"]
    sequence[_T - 1, 4] = row["value"][_MCC]
    sequence[_T - 1, 5] = _local_hour(event_ms, row["utc_offset"])


@njit(nogil=True, cache=True)
def _advance_cards(states, state_of, rows, places, plan, vectors, sequences, unusual, scratches):
    scratch = scratches[0]
    for position in range(rows.shape[0]):
        row = rows[position]
        state = states[state_of[position]]
        event_ms = row["event_ms"]
        _expire(state, event_ms)
        ratio = _ratio_to_usual(state, row)
        if places[position] >= 0:
            _look_at_ring(state, event_ms, scratch)
            scratch["look"][_USUAL] = ratio
            _write_vector(state, row, plan, vectors[places[position]], scratch)
            _write_sequence(state, row, sequences[places[position]])
        known = np.float32(0.0)
        if row["kind"] == _PURCHASE and not np.isnan(ratio):
            known = np.float32(ratio)
        unusual[position] = 1 if known > _UNUSUAL else 0
        _advance(state, row, known)


_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]


def card_plan(catalogue: Sequence[Feature]) -> _Ints:
    """Return a catalogue's card features as the kernel reads them.

    int64 [n, 4]: place in the vector, aggregation, bucket level, and span: buckets of the level,
    or milliseconds for what looks at the ring.

    >>> card_plan(CATALOGUE[:1]).tolist() == [[0, Aggregation.AMOUNT, 0, 0]]
    True
    """
    plan = []
    for place, feature in enumerate(catalogue):
        if feature.is_of_card:
            level, span = bucket_span(feature.window_h)
            if feature.aggregation > Aggregation.RATIO_TO_MEAN:
                span = feature.window_h * HOUR_MS
            plan.append((place, int(feature.aggregation), level, span))
    return np.array(plan, np.int64)


def bucket_span(window_h: int) -> tuple[int, int]:
    """Return the bucket level of a window, and how many buckets of it the window has.

    The hour has a level of its own; up to a day, buckets are hours; beyond, days.

    >>> bucket_span(1), bucket_span(24), bucket_span(168)
    ((0, 12), (1, 24), (2, 7))
    """
    if window_h <= 1:
        return 0, CARD_BUCKETS[0]
    if window_h <= HOURS_OF_DAY:
        return 1, window_h
    return 2, window_h // HOURS_OF_DAY


# What the kernel is told of the catalogue.
CARD_PLAN: Final = card_plan(CATALOGUE)


def empty_outputs(rows: int) -> tuple[_Floats, _Floats]:
    """Return room for the vectors float32 [rows, F], all missing, and sequences [rows, T, C].

    >>> [room.shape[0] for room in empty_outputs(3)]
    [3, 3]
    """
    return (
        np.full((rows, len(CATALOGUE)), np.nan, np.float32),
        np.empty((rows, SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS)), np.float32),
    )


def advance_cards(
    states: npt.NDArray[np.void],
    state_of: _Ints,
    rows: npt.NDArray[np.void],
    outputs: tuple[_Floats, _Floats],
    places: _Ints,
) -> npt.NDArray[np.int8]:
    """Compute the card's features of rows in order, and move their cards' states on.

    Args:
        states: `CARD_STATE` [cards], changed in place.
        state_of: int64 [B], the state of each row.
        rows: `ROW` [B], in the order of the log.
        outputs: Vectors float32 [K, F] and sequences float32 [K, T, C], as `empty_outputs` makes
            them; of a vector, the places of shared entities are left alone.
        places: int64 [B], where in `outputs` each row goes, -1 for nowhere.

    Returns:
        Whether each row is an unusual purchase of its card: int8 [B].

    >>> from fraudstream.features.state import CARD_STATE, ROW
    >>> states, rows = np.zeros(1, CARD_STATE), np.zeros(2, ROW)
    >>> zeros = np.zeros(2, np.int64)
    >>> advance_cards(states, zeros, rows, empty_outputs(2), np.arange(2)).tolist()
    [0, 0]
    >>> states["rows"].tolist()
    [2]
    """
    unusual = np.zeros(len(rows), np.int8)
    scratch = np.zeros(1, _SCRATCH)
    _advance_cards(
        states, state_of, rows, places, CARD_PLAN, outputs[0], outputs[1], unusual, scratch
    )
    return unusual


def advance_states(
    states: npt.NDArray[np.void], state_of: _Ints, rows: npt.NDArray[np.void]
) -> None:
    """Move cards' states on by rows, in order, and compute no features: `advance_cards` tells what.

    >>> from fraudstream.features.state import CARD_STATE, ROW
    >>> states = np.zeros(1, CARD_STATE)
    >>> advance_states(states, np.zeros(3, np.int64), np.zeros(3, ROW))
    >>> states["rows"].tolist()
    [3]
    """
    advance_cards(states, state_of, rows, empty_outputs(0), np.full(len(rows), -1, np.int64))
