"""How a card's features are computed: pure functions over packed states, compiled by Numba.

Rows go in order; a row's features are the state before it plus the row itself, then the state
moves on. Sums are int64, no fastmath, so the same input gives the same bits on one CPU class.
Everything is in one file, since Numba's cache looks at the file of the function alone.
Cost: about 1.5 microseconds a row. Axes: B rows, F features, T steps, S kept ones, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

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
from fraudstream.features.prefetch import AHEAD, LINE_BYTES, prefetch
from fraudstream.features.state import (
    CARD_ALL,
    CARD_BUCKETS,
    CARD_START,
    CARD_STATE,
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
# Constants one by one: the compiler turns a division by a constant into a multiplication.
_WIDTH_0_MS, _WIDTH_1_MS, _WIDTH_2_MS = CARD_WIDTH_MS
_SIZE_0, _SIZE_1, _SIZE_2 = CARD_BUCKETS
_BUCKETS = np.array(CARD_BUCKETS, dtype=np.int64)
_START = np.array(CARD_START, dtype=np.int64)
_STATE_BYTES = CARD_STATE.itemsize
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
_UNSEEN = np.uint32(0xFFFFFFFF)  # age of an index without a row, or of one later than the reader
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
_SPEED = int(Aggregation.SPEED_KMH)
_DISTINCT = int(Aggregation.DISTINCT_TERMINALS)
_IS_NEW = int(Aggregation.IS_NEW_TERMINAL)

_NO_WINDOW = int(max(Aggregation)) + 1  # numbers of features without a window

_WORD = np.dtype({"names": ["bits", "number"], "formats": ["<i4", "<f4"], "offsets": [0, 0]})
# What a row is told of its card: sums of windows, ages of the ring, and each feature without a
# window at the number of its aggregation.
_SCRATCH = np.dtype(
    [
        ("bucket", "<i8", (3,)),  # of the row, by level
        ("slot", "<i8", (3,)),  # of that bucket
        ("own", "<i8", (3,)),  # 1 where the row counts in its bucket, else 0
        ("count", "<i8"),
        ("spend", "<i8"),
        ("largest", "<f8"),
        ("word", _WORD),
        ("age_ms", "<u4", (_T,)),
        ("amount", "<f4", (_T,)),
        ("square", "<f8", (_T,)),
        ("unusual", "<i8", (_T,)),  # indices of the unusual rows
        ("unusuals", "<i8"),
        ("found", "<f8", (_NO_WINDOW,)),
        ("table", "<i8", (_TABLE,)),
        ("epoch", "<i8"),
        ("known", "<i8", (6,)),  # 0 where no row of the ring has such a value
    ]
)

# The same bytes of a card's state as integers: bits of floats that are not negative order as the
# floats do, and the compiler finds the largest of integers eight at a time.
_BIT_FIELDS = {
    "largest": ("<i4", (CARD_ALL,)),
    "ring_ratio": ("<i4", (_T,)),
    "ring_value": ("<i8", (len(VALUES), _T // 2)),
    "ring_is_night": ("<i8", (_T // 8,)),
    "ring_is_weekend": ("<i8", (_T // 8,)),
    "ring_is_remote": ("<i8", (_T // 8,)),
}
_FIELDS: Any = CARD_STATE.fields
_BITS = np.dtype(
    {
        "names": list(_BIT_FIELDS),
        "formats": list(_BIT_FIELDS.values()),
        "offsets": [_FIELDS[name][1] for name in _BIT_FIELDS],
        "itemsize": CARD_STATE.itemsize,
    }
)


@njit(nogil=True, cache=True)
def _ratio(part, whole):
    """Return `part / whole`, NaN where `whole` is 0 or missing."""
    if whole == 0 or whole != whole:  # NaN is the only number unequal to itself
        return np.nan
    return part / whole


@njit(nogil=True, cache=True)
def _clear_passed(counts, spends, largests, start, size, head, bucket):
    """Zero the slots that the head passes on its way from `head` to `bucket`."""
    passed = min(bucket - head, size)
    slot = (bucket - passed + 1) % size
    for _ in range(passed):
        counts[start + slot] = 0
        spends[start + slot] = 0
        largests[start + slot] = 0
        slot = 0 if slot == size - 1 else slot + 1


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
def _find_buckets(event_ms, scratch):
    """Write the bucket of a time on each level, and its slot."""
    buckets, slots = scratch["bucket"], scratch["slot"]
    buckets[0] = event_ms // _WIDTH_0_MS
    buckets[1] = event_ms // _WIDTH_1_MS
    buckets[2] = event_ms // _WIDTH_2_MS
    slots[0] = buckets[0] % _SIZE_0
    slots[1] = buckets[1] % _SIZE_1
    slots[2] = buckets[2] % _SIZE_2


@njit(nogil=True, cache=True)
def _count_purchase(state, amount, scratch):
    """Add a purchase to the buckets of its event time."""
    counts, spends, largests = state["count"], state["spend"], state["largest"]
    for level in range(3):
        size = _BUCKETS[level]
        start = _START[level]
        bucket = scratch["bucket"][level]
        head = state["head"][level]
        if bucket > head:
            _clear_passed(counts, spends, largests, start, size, head, bucket)
            state["head"][level] = bucket
            head = bucket
        if bucket > head - size:
            slot = start + scratch["slot"][level]
            counts[slot] += 1
            spends[slot] += amount
            largests[slot] = max(largests[slot], np.float32(amount))


@njit(nogil=True, cache=True)
def _advance(state, row, ratio, scratch):
    """Move a card's state on by one row; `ratio` is its amount against the usual one."""
    event_ms = row["event_ms"]
    if row["kind"] == _PURCHASE:
        _count_purchase(state, row["amount"], scratch)
        _move_usual(state, np.float64(row["amount"]))
    index = state["rows"] & _MASK
    state["ring_event_ms"][index] = event_ms
    state["ring_amount"][index] = row["amount"]
    state["ring_ratio"][index] = ratio
    for value in range(6):
        state["ring_value"][value, index] = row["value"][value]
    state["ring_hour"][index] = _local_hour(event_ms, row["utc_offset"])
    state["ring_is_night"][index] = _is_night(event_ms, row["utc_offset"])
    state["ring_is_weekend"][index] = _is_weekend(event_ms, row["utc_offset"])
    state["ring_is_remote"][index] = row["channel"] in (_ECOMMERCE, _MOTO, _RECURRING)
    state["ring_kind"][index] = row["kind"]
    state["ring_channel"][index] = row["channel"]
    if not np.isnan(row["latitude"]) and not np.isnan(row["longitude"]):
        state["place_ms"] = event_ms
        state["latitude"] = row["latitude"]
        state["longitude"] = row["longitude"]
    if state["rows"] == 0 or event_ms < state["first_ms"]:
        state["first_ms"] = event_ms
    state["previous_ms"] = max(state["previous_ms"], event_ms)
    state["rows"] += 1


@njit(nogil=True, cache=True)
def _sum_run(state, bits, begin, end):
    """Sum a run of slots: purchases, spend, and the bits of the largest amount."""
    count = np.int64(0)
    spend = np.int64(0)
    largest = np.int64(0)
    for number in state["count"][begin:end]:
        count += number
    for number in state["spend"][begin:end]:
        spend += number
    for number in bits["largest"][begin:end]:
        largest = max(largest, np.int64(number))
    return count, spend, largest


@njit(nogil=True, cache=True)
def _sum_window(state, bits, level, span, scratch):
    """Sum the newest `span` buckets of a level up to the row's."""
    start, size = _START[level], _BUCKETS[level]
    ahead = scratch["bucket"][level] - state["head"][level]
    newest, oldest = max(ahead, 0), min(ahead + size, span) - 1  # how many buckets back
    if oldest < newest:
        scratch["count"], scratch["spend"], scratch["largest"] = 0, 0, 0.0
        return
    begin = scratch["slot"][level] - oldest
    begin = start + (begin if begin >= 0 else begin + size)
    buckets = oldest - newest + 1
    end = min(begin + buckets, start + size)
    count, spend, largest = _sum_run(state, bits, begin, end)
    if end - begin < buckets:  # the buckets go on at the level's begin
        rest, more, other = _sum_run(state, bits, start, start + buckets - (end - begin))
        count += rest
        spend += more
        largest = max(largest, other)
    scratch["count"] = count
    scratch["spend"] = spend
    scratch["largest"] = _float_of(largest, scratch)


@njit(nogil=True, cache=True)
def _float_of(bits, scratch):
    """Return the float32 that has these bits, as float64."""
    scratch["word"]["bits"] = bits
    return np.float64(scratch["word"]["number"])


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
def _look_at_place(state, row, found):
    """Write how far and how quickly the card came from its last known place."""
    found[_KM] = np.nan
    found[_SPEED] = np.nan
    has_place = not np.isnan(row["latitude"]) and not np.isnan(row["longitude"])
    if not has_place or state["place_ms"] == 0:
        return
    km = _distance_km(state["latitude"], state["longitude"], row["latitude"], row["longitude"])
    took_ms = max(abs(row["event_ms"] - state["place_ms"]), MINUTE_MS)
    found[_KM] = km
    found[_SPEED] = km / (took_ms / HOUR_MS)


@njit(nogil=True, cache=True)
def _flags(words):
    """Return how many bytes of four words are 1; the others are 0."""
    lanes = words[0] + words[1] + words[2] + words[3]
    lanes += lanes >> 32  # a lane holds 32 at most: nothing carries over
    lanes += lanes >> 16
    lanes += lanes >> 8
    return np.float64(lanes & 0xFF)


@njit(nogil=True, cache=True)
def _look_at_ring(state, bits, event_ms, scratch):
    """Write the ages of the ring's rows, the shares of their kinds, and which are unusual."""
    kept = min(state["rows"], _T)
    ages, at_ms = scratch["age_ms"], state["ring_event_ms"]
    for index in range(_T):
        age = event_ms - at_ms[index]
        is_seen = index < kept and age >= 0 and age < _UNSEEN
        ages[index] = np.uint32(age) if is_seen else _UNSEEN
    found, rows = scratch["found"], np.float64(kept)
    found[_NIGHT_SHARE] = _ratio(_flags(bits["ring_is_night"]), rows)
    found[_WEEKEND_SHARE] = _ratio(_flags(bits["ring_is_weekend"]), rows)
    found[_NOT_PRESENT_SHARE] = _ratio(_flags(bits["ring_is_remote"]), rows)
    ratios, unusual = state["ring_ratio"], scratch["unusual"]
    unusuals = 0
    for index in range(_T):
        unusual[unusuals & _MASK] = index
        unusuals += 1 if ratios[index] > _UNUSUAL else 0
    scratch["unusuals"] = unusuals


@njit(nogil=True, cache=True)
def _look_at_values(state, bits, row, scratch):
    """Write which of the row's values are not in the ring: 1.0, 0.0, or NaN for no value."""
    found, known = scratch["found"], scratch["known"]
    for value in range(6):
        pairs = bits["ring_value"][value]
        any_bits = np.int64(0)
        for pair in range(_T // 2):
            any_bits |= pairs[pair]
        known[value] = any_bits
        own = row["value"][value]
        if own == 0:
            found[_IS_NEW + value] = np.nan
        elif any_bits == 0:
            found[_IS_NEW + value] = 1.0
        else:
            values = state["ring_value"][value]
            seen = 0
            for index in range(_T):
                seen += 1 if values[index] == own else 0
            found[_IS_NEW + value] = 0.0 if seen else 1.0


@njit(nogil=True, cache=True)
def _look_at_row(state, row, ratio, found):
    """Write the features of the row itself against its card; `ratio` is to the usual amount."""
    event_ms = row["event_ms"]
    found[_AMOUNT] = np.float64(row["amount"])
    found[_IS_NIGHT] = np.float64(_is_night(event_ms, row["utc_offset"]))
    found[_IS_WEEKEND] = np.float64(_is_weekend(event_ms, row["utc_offset"]))
    found[_RATIO_TO_CLIPPED_MEAN] = ratio
    found[_SINCE_PREVIOUS] = _seconds_since(state, event_ms, state["previous_ms"])
    found[_SINCE_FIRST] = min(_seconds_since(state, event_ms, state["first_ms"]), _NOT_NEW_S)


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
    own = row["value"][value]
    if scratch["known"][value] == 0:  # most cards have no device
        return 1.0 if own != 0 else 0.0
    values, ages, window = state["ring_value"][value], scratch["age_ms"], np.uint32(window_ms)
    scratch["epoch"] += 1
    table, epoch = scratch["table"], scratch["epoch"]
    found = _put(table, epoch, np.int64(own)) if own != 0 else 0
    for index in range(_T):
        if ages[index] < window and values[index] != 0:
            found += _put(table, epoch, np.int64(values[index]))
    return np.float64(found)


@njit(nogil=True, cache=True)
def _spread(state, window_ms, scratch):
    """Return the standard deviation of the recent purchases, NaN for fewer than two."""
    rows = state["rows"]
    kept = min(rows, _T)
    amounts, ages, window = scratch["amount"], scratch["age_ms"], np.uint32(window_ms)
    own, kinds = state["ring_amount"], state["ring_kind"]
    found = 0
    total = 0.0
    for step in range(kept):
        index = (rows - kept + step) & _MASK
        if ages[index] < window and kinds[index] == _PURCHASE:
            amounts[found] = own[index]
            total += np.float64(own[index])
            found += 1
    if found < 2:  # one purchase has no spread
        return np.nan
    mean, offs = total / found, scratch["square"]
    for index in range(found):
        off = np.float64(amounts[index]) - mean
        offs[index] = off * off
    squares = 0.0
    for index in range(found):
        squares += offs[index]
    return np.sqrt(squares / found)


@njit(nogil=True, cache=True)
def _unusual_count(window_ms, scratch):
    """Return how many of the recent rows were unusual."""
    ages, unusual, window = scratch["age_ms"], scratch["unusual"], np.uint32(window_ms)
    found = 0
    for number in range(scratch["unusuals"]):
        found += 1 if ages[unusual[number]] < window else 0
    return np.float64(found)


@njit(nogil=True, cache=True)
def _largest_ratio(bits, window_ms, scratch):
    """Return the largest ratio of the recent rows, 0 for none."""
    ages, ratios, window = scratch["age_ms"], bits["ring_ratio"], np.uint32(window_ms)
    largest = np.int64(0)
    for index in range(_T):
        own = np.int64(ratios[index]) if ages[index] < window else np.int64(0)
        largest = max(largest, own)
    return _float_of(largest, scratch)


@njit(nogil=True, cache=True)
def _seconds_since(state, event_ms, earlier_ms):
    """Return the seconds between two times, never negative; NaN for a card without rows."""
    if state["rows"] == 0:
        return np.nan
    return max(0.0, (event_ms - earlier_ms) / 1000.0)


@njit(nogil=True, cache=True)
def _window_feature(aggregation, own, amount, scratch):
    """Return one feature of the window just summed; `own` is 1 where the row counts, else 0."""
    count, spend = scratch["count"], scratch["spend"]
    if aggregation == _RATIO_TO_MEAN:
        return _ratio(np.float64(amount), _ratio(np.float64(spend), np.float64(count)))
    count += own
    spend += own * amount
    if aggregation == _COUNT:
        return np.float64(count)
    if aggregation == _SUM:
        return np.float64(spend)
    if aggregation == _MEAN:
        return _ratio(np.float64(spend), np.float64(count))
    if count == 0:
        return np.nan
    return max(scratch["largest"], np.float64(own * amount))


@njit(nogil=True, cache=True)
def _write_windows(state, bits, row, plan, vector, scratch):
    """Write the features of buckets; those of one window stand together in the plan."""
    amount, is_purchase = row["amount"], row["kind"] == _PURCHASE
    summed_level, summed_span = -1, -1
    own = 0
    for position in range(plan.shape[0]):
        level, span = plan[position, 2], plan[position, 3]
        if level != summed_level or span != summed_span:
            _sum_window(state, bits, level, span, scratch)
            is_kept = scratch["bucket"][level] > state["head"][level] - _BUCKETS[level]
            own = 1 if is_purchase and is_kept else 0
            summed_level, summed_span = level, span
        vector[plan[position, 0]] = _window_feature(plan[position, 1], own, amount, scratch)


@njit(nogil=True, cache=True)
def _write_recent(state, bits, row, plan, vector, scratch):
    """Write the features of the ring's rows inside a window."""
    for position in range(plan.shape[0]):
        aggregation, window_ms = plan[position, 1], plan[position, 3]
        if aggregation >= _DISTINCT:
            value = _distinct(state, row, aggregation - _DISTINCT, window_ms, scratch)
        elif aggregation == _UNUSUAL_COUNT:
            value = _unusual_count(window_ms, scratch)
        elif aggregation == _LARGEST_RATIO:
            value = _largest_ratio(bits, window_ms, scratch)
        else:
            value = _spread(state, window_ms, scratch)
        vector[plan[position, 0]] = value


@njit(nogil=True, cache=True)
def _write_vector(state, bits, row, ratio, plan, parts, vector, scratch):
    """Write a card's features of a row; `state` is the one before it."""
    found = scratch["found"]
    _look_at_ring(state, bits, row["event_ms"], scratch)
    _look_at_place(state, row, found)
    _look_at_values(state, bits, row, scratch)
    _look_at_row(state, row, ratio, found)
    _write_windows(state, bits, row, plan[: parts[0]], vector, scratch)
    _write_recent(state, bits, row, plan[parts[0] : parts[1]], vector, scratch)
    for position in range(parts[1], plan.shape[0]):
        vector[plan[position, 0]] = found[plan[position, 1]]


@njit(nogil=True, cache=True)
def _write_steps(state, event_ms, index, sequence):
    """Write rows of the ring from an index on, one a step of `sequence`."""
    amounts, at_ms, hours = state["ring_amount"], state["ring_event_ms"], state["ring_hour"]
    kinds, channels, values = state["ring_kind"], state["ring_channel"], state["ring_value"]
    for step in range(sequence.shape[0]):
        at = index + step
        sequence[step, 0] = amounts[at]
        sequence[step, 1] = max(event_ms - at_ms[at], 0) / 1000.0
        sequence[step, 2] = kinds[at]
        sequence[step, 3] = channels[at]
        sequence[step, 4] = values[_MCC, at]
        sequence[step, 5] = hours[at]


@njit(nogil=True, cache=True)
def _write_sequence(state, row, sequence):
    """Write the newest rows of the ring and the row itself into `sequence` float32 [S, C]."""
    event_ms = row["event_ms"]
    last = sequence.shape[0] - 1
    kept = min(state["rows"], last)
    padding = last - kept
    for step in range(padding):
        sequence[step, :] = 0.0
        sequence[step, 1] = -1.0
    index = (state["rows"] - kept) & _MASK
    unbroken = padding + min(kept, _T - index)  # the ring goes on at its begin
    _write_steps(state, event_ms, index, sequence[padding:unbroken])
    _write_steps(state, event_ms, 0, sequence[unbroken:last])
    sequence[last, 0] = row["amount"]
    sequence[last, 1] = 0.0
    sequence[last, 2] = row["kind"]
    sequence[last, 3] = row["channel"]
    sequence[last, 4] = row["value"][_MCC]
    sequence[last, 5] = _local_hour(event_ms, row["utc_offset"])


@njit(nogil=True, cache=True)
def _parts_of(plan):
    """Return where the windows of the plan end, and where the recent rows do."""
    windows = 0
    recent = 0
    for position in range(plan.shape[0]):
        aggregation = plan[position, 1]
        is_window = aggregation <= _RATIO_TO_MEAN
        is_distinct = aggregation >= _DISTINCT and aggregation < _IS_NEW
        windows += 1 if is_window else 0
        is_recent = aggregation >= _STD and aggregation <= _LARGEST_RATIO
        recent += 1 if is_window or is_recent or is_distinct else 0
    return windows, recent


@njit(nogil=True, cache=True)
def _advance_cards(cards, rows, indices, plan, outputs, unusual, scratches):
    states, all_bits, state_of = cards
    vectors, sequences = outputs
    scratch, parts = scratches[0], _parts_of(plan)
    for position in range(rows.shape[0]):
        if position + AHEAD < rows.shape[0]:
            coming = states[state_of[position + AHEAD]]
            for offset in range(0, _STATE_BYTES, LINE_BYTES):
                prefetch(coming, offset)
        row = rows[position]
        state = states[state_of[position]]
        event_ms = row["event_ms"]
        _expire(state, event_ms)
        _find_buckets(event_ms, scratch)
        ratio = _ratio_to_usual(state, row)
        if indices[position] >= 0:
            bits, vector = all_bits[state_of[position]], vectors[indices[position]]
            _write_vector(state, bits, row, ratio, plan, parts, vector, scratch)
            _write_sequence(state, row, sequences[indices[position]])
        known = np.float32(0.0)
        if row["kind"] == _PURCHASE and not np.isnan(ratio):
            known = np.float32(ratio)
        unusual[position] = 1 if known > _UNUSUAL else 0
        _advance(state, row, known, scratch)


_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float32]


def card_plan(catalogue: Sequence[Feature]) -> _Ints:
    """Return a catalogue's card features as the kernel reads them.

    int64 [n, 4]: index in the vector, aggregation, bucket level, and span: buckets of the level,
    or milliseconds for what looks at the ring. Windows come first, each window's together, then
    what looks at recent rows, then what has no window.

    >>> card_plan(CATALOGUE[:1]).tolist() == [[0, Aggregation.AMOUNT, 0, 0]]
    True
    """
    plan = []
    for index, feature in enumerate(catalogue):
        if feature.is_of_card:
            level, span = bucket_span(feature.window_h)
            if feature.aggregation > Aggregation.RATIO_TO_MEAN:
                span = feature.window_h * HOUR_MS
            plan.append((index, int(feature.aggregation), level, span))
    return np.array(sorted(plan, key=_order), np.int64)


def _order(line: tuple[int, int, int, int]) -> tuple[int, ...]:
    """Return where a line of the plan stands."""
    index, aggregation, level, span = line
    if aggregation <= Aggregation.RATIO_TO_MEAN:
        return 0, level, span, index
    return 1 if span else 2, index


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


def empty_outputs(rows: int, steps: int = SEQUENCE_LENGTH) -> tuple[_Floats, _Floats]:
    """Return room for the vectors float32 [rows, F], all missing, and sequences [rows, steps, C].

    Args:
        rows: How many.
        steps: Last steps of each sequence, 1 (the row itself) to T.

    >>> [room.shape[:-1] for room in empty_outputs(3)]
    [(3,), (3, 32)]
    """
    return (
        np.full((rows, len(CATALOGUE)), np.nan, np.float32),
        np.empty((rows, steps, len(SEQUENCE_CHANNELS)), np.float32),
    )


def advance_cards(
    states: npt.NDArray[np.void],
    state_of: _Ints,
    rows: npt.NDArray[np.void],
    outputs: tuple[_Floats, _Floats],
    indices: _Ints,
) -> npt.NDArray[np.int8]:
    """Compute the card's features of rows in order, and move their cards' states on.

    Args:
        states: `CARD_STATE` [cards], changed in place.
        state_of: int64 [B], the state of each row.
        rows: `ROW` [B], in the order of the log.
        outputs: Vectors float32 [K, F] and sequences float32 [K, S, C], as `empty_outputs` makes
            them; of a vector, the columns of shared entities are left alone.
        indices: int64 [B], where in `outputs` each row goes, -1 for nowhere.

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
    cards = (states, states.view(_BITS), state_of)
    _advance_cards(cards, rows, indices, CARD_PLAN, outputs, unusual, scratch)
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
    advance_cards(states, state_of, rows, empty_outputs(0, 1), np.full(len(rows), -1, np.int64))
