"""How features are computed: pure functions over packed states, compiled by Numba.

Rows go in order; a row's features are the state before it plus the row itself, then the state
moves on. Sums are int64, no fastmath, so the same input gives the same bits on one CPU class.
Cost: about 1 microsecond a row. Axes: B rows, F features, T steps, C channels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from fraudstream.features.catalogue import (
    LABEL_DELAY_D,
    SEQUENCE_CHANNELS,
    SEQUENCE_LENGTH,
    Aggregation,
    kernel_plan,
)
from fraudstream.features.state import (
    CARD_BUCKETS,
    CARD_START,
    CARD_STATE,
    CARD_WIDTH_MS,
    DAY_MS,
    EXPIRY_D,
    HOUR_MS,
    LABEL_STATE,
    MINUTE_MS,
    ROW,
    TERMINAL_DAYS,
    TERMINAL_HOURS,
    TERMINAL_MINUTES,
    TERMINAL_STATE,
)

_T = SEQUENCE_LENGTH
_PURCHASE = 1  # TRANSACTION_KIND_PURCHASE
_LEVEL_OF_WINDOW = np.array([0, 1, 2, 2], dtype=np.int64)
_BUCKETS_OF_WINDOW = np.array([12, 24, 7, 30], dtype=np.int64)
_DAYS_OF_WINDOW = np.array([0, 1, 7, 30], dtype=np.int64)
_WIDTH_MS = np.array(CARD_WIDTH_MS, dtype=np.int64)
_BUCKETS = np.array(CARD_BUCKETS, dtype=np.int64)
_START = np.array(CARD_START, dtype=np.int64)
_EXPIRY_MS = EXPIRY_D * DAY_MS
# How new a card is matters for a month; an age without bound would only tell the calendar.
_NOT_NEW_S = 30.0 * DAY_MS / 1000.0
_NIGHT_ENDS_H = 7.0
_SATURDAY = 5
_EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday; Monday is 0

# The catalogue's aggregations as constants that Numba folds.
_COUNT = int(Aggregation.COUNT)
_SUM = int(Aggregation.SUM)
_MEAN = int(Aggregation.MEAN)
_MAX = int(Aggregation.MAX)
_AMOUNT = int(Aggregation.AMOUNT)
_SINCE_PREVIOUS = int(Aggregation.SECONDS_SINCE_PREVIOUS)
_SINCE_FIRST = int(Aggregation.SECONDS_SINCE_FIRST)
_RATIO_TO_MEAN = int(Aggregation.RATIO_TO_MEAN)
_RATIO_TO_MEDIAN = int(Aggregation.RATIO_TO_MEDIAN)
_NEW_TERMINAL = int(Aggregation.IS_NEW_TERMINAL)
_NIGHT = int(Aggregation.IS_NIGHT)
_WEEKEND = int(Aggregation.IS_WEEKEND)
_TERMINAL_COUNT = int(Aggregation.TERMINAL_COUNT)
_TERMINAL_MEAN = int(Aggregation.TERMINAL_MEAN)
_FRAUD_COUNT = int(Aggregation.FRAUD_COUNT)
_FRAUD_SHARE = int(Aggregation.FRAUD_SHARE)


@njit(nogil=True, cache=True)
def _clear_passed(buckets, start, size, head, bucket):
    """Zero the slots that the head passes on its way from `head` to `bucket`."""
    first = head + 1
    if bucket - head > size:
        first = bucket - size + 1
    for number in range(first, bucket + 1):
        buckets[start + number % size] = 0


@njit(nogil=True, cache=True)
def _empty_card(state):
    """Make a card's state as new."""
    state["previous_ms"] = 0
    state["first_ms"] = 0
    state["rows"] = 0
    state["head"][:] = 0
    state["count"][:] = 0
    state["spend"][:] = 0
    state["largest"][:] = 0
    state["ring_event_ms"][:] = 0
    state["ring_amount"][:] = 0
    state["ring_terminal"][:] = 0
    state["ring_utc_offset"][:] = 0
    state["ring_mcc"][:] = 0
    state["ring_kind"][:] = 0
    state["ring_channel"][:] = 0


@njit(nogil=True, cache=True)
def _advance_card(state, row):
    """Move a card's state on by one row."""
    event_ms = row["event_ms"]
    if row["kind"] == _PURCHASE:
        amount = row["amount"]
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
                state["largest"][slot] = max(state["largest"][slot], amount)
    place = state["rows"] % _T
    state["ring_event_ms"][place] = event_ms
    state["ring_amount"][place] = row["amount"]
    state["ring_terminal"][place] = row["terminal"]
    state["ring_utc_offset"][place] = row["utc_offset"]
    state["ring_mcc"][place] = row["mcc"]
    state["ring_kind"][place] = row["kind"]
    state["ring_channel"][place] = row["channel"]
    if state["rows"] == 0 or event_ms < state["first_ms"]:
        state["first_ms"] = event_ms
    state["previous_ms"] = max(state["previous_ms"], event_ms)
    state["rows"] += 1


@njit(nogil=True, cache=True)
def _card_window(state, window, event_ms):
    """Return count, spend and largest of the buckets of a window that ends at `event_ms`."""
    level = _LEVEL_OF_WINDOW[window]
    size = _BUCKETS[level]
    bucket = event_ms // _WIDTH_MS[level]
    head = state["head"][level]
    count = 0
    spend = 0
    largest = 0
    first = max(bucket - _BUCKETS_OF_WINDOW[window], head - size) + 1
    for number in range(first, min(bucket, head) + 1):
        slot = _START[level] + number % size
        count += state["count"][slot]
        spend += state["spend"][slot]
        largest = max(largest, state["largest"][slot])
    return count, spend, largest


@njit(nogil=True, cache=True)
def _median_purchase(state):
    """Return the median amount of the purchases in the ring, NaN for none."""
    amounts = np.empty(_T, np.int64)
    found = 0
    for place in range(min(state["rows"], _T)):
        if state["ring_kind"][place] == _PURCHASE:
            amounts[found] = state["ring_amount"][place]
            found += 1
    if found == 0:
        return np.nan
    ordered = np.sort(amounts[:found])
    return (ordered[(found - 1) // 2] + ordered[found // 2]) / 2.0


@njit(nogil=True, cache=True)
def _is_new_terminal(state, terminal):
    """Tell whether a terminal is not in the ring: 1.0, 0.0, or NaN for no terminal."""
    if terminal == 0:
        return np.nan
    for place in range(min(state["rows"], _T)):
        if state["ring_terminal"][place] == terminal:
            return 0.0
    return 1.0


@njit(nogil=True, cache=True)
def _ratio(part, whole):
    """Return `part / whole`, NaN where `whole` is 0 or missing."""
    if whole == 0 or whole != whole:  # NaN is the only number unequal to itself
        return np.nan
    return part / whole


@njit(nogil=True, cache=True)
def _closed_sum(buckets, size, head, first, last):
    """Sum the buckets `first` to `last`, both included, that are still kept."""
    total = 0
    for number in range(max(first, head - size + 1), min(last, head) + 1):
        total += buckets[number % size]
    return total


@njit(nogil=True, cache=True)
def _terminal_feature(aggregation, window, event_ms, terminal, label):
    """Return one feature of a terminal, from closed buckets only."""
    heads = terminal["head"]
    if aggregation in (_FRAUD_COUNT, _FRAUD_SHARE):
        last = event_ms // DAY_MS - LABEL_DELAY_D - 1
        first = last - _DAYS_OF_WINDOW[window] + 1
        frauds = _closed_sum(label["day_fraud"], TERMINAL_DAYS, label["head"], first, last)
        if aggregation == _FRAUD_COUNT:
            return float(frauds)
        rows = _closed_sum(terminal["day_count"], TERMINAL_DAYS, heads[2], first, last)
        return 0.0 if rows == 0 else frauds / rows
    if window == 0:
        last = event_ms // MINUTE_MS - 1
        return float(
            _closed_sum(terminal["minute_count"], TERMINAL_MINUTES, heads[0], last - 59, last)
        )
    if window == 1:
        last = event_ms // HOUR_MS - 1
        rows = _closed_sum(terminal["hour_count"], TERMINAL_HOURS, heads[1], last - 23, last)
        if aggregation == _TERMINAL_COUNT:
            return float(rows)
        spend = _closed_sum(terminal["hour_spend"], TERMINAL_HOURS, heads[1], last - 23, last)
        return _ratio(float(spend), float(rows))
    last = event_ms // DAY_MS - 1
    first = last - _DAYS_OF_WINDOW[window] + 1
    return float(_closed_sum(terminal["day_count"], TERMINAL_DAYS, heads[2], first, last))


@njit(nogil=True, cache=True)
def _local_hour(event_ms, utc_offset):
    """Return the hour of the local day, 0 to 24."""
    return ((event_ms + utc_offset * MINUTE_MS) % DAY_MS) / HOUR_MS


@njit(nogil=True, cache=True)
def _is_weekend(event_ms, utc_offset):
    """Tell whether the local day is a Saturday or Sunday."""
    day = (event_ms + utc_offset * MINUTE_MS) // DAY_MS
    return 1.0 if (day + _EPOCH_WEEKDAY) % 7 >= _SATURDAY else 0.0


@njit(nogil=True, cache=True)
def _seconds_since(state, event_ms, earlier_ms):
    """Return the seconds between two times, never negative; NaN for a card without rows."""
    if state["rows"] == 0:
        return np.nan
    return max(0.0, (event_ms - earlier_ms) / 1000.0)


@njit(nogil=True, cache=True)
def _plain_feature(aggregation, state, row, before_count, before_spend):
    """Return one feature that needs no window of its own. `state` is the one before the row."""
    event_ms = row["event_ms"]
    amount = float(row["amount"])
    if aggregation == _AMOUNT:
        return amount
    if aggregation == _SINCE_PREVIOUS:
        return _seconds_since(state, event_ms, state["previous_ms"])
    if aggregation == _SINCE_FIRST:
        return min(_seconds_since(state, event_ms, state["first_ms"]), _NOT_NEW_S)
    if aggregation == _RATIO_TO_MEAN:
        return _ratio(amount, _ratio(float(before_spend), float(before_count)))
    if aggregation == _RATIO_TO_MEDIAN:
        return _ratio(amount, _median_purchase(state))
    if aggregation == _NEW_TERMINAL:
        return _is_new_terminal(state, row["terminal"])
    if aggregation == _NIGHT:
        return 1.0 if _local_hour(event_ms, row["utc_offset"]) < _NIGHT_ENDS_H else 0.0
    return _is_weekend(event_ms, row["utc_offset"])


@njit(nogil=True, cache=True)
def _window_feature(aggregation, count, spend, largest):
    """Return one feature of a card's window."""
    if aggregation == _COUNT:
        return float(count)
    if aggregation == _SUM:
        return float(spend)
    if aggregation == _MEAN:
        return _ratio(float(spend), float(count))
    return np.nan if count == 0 else float(largest)


@njit(nogil=True, cache=True)
def _write_sequence(state, row, sequence):
    """Write the last T-1 rows of the ring and the row itself into `sequence` float32 [T, C]."""
    event_ms = row["event_ms"]
    rows = state["rows"]
    kept = min(rows, _T - 1)
    for step in range(_T - 1 - kept):
        sequence[step, :] = 0.0
        sequence[step, 1] = -1.0
    for back in range(kept):
        step = _T - 2 - back
        place = (rows - 1 - back) % _T
        at_ms = state["ring_event_ms"][place]
        sequence[step, 0] = state["ring_amount"][place]
        sequence[step, 1] = max(0.0, (event_ms - at_ms) / 1000.0)
        sequence[step, 2] = state["ring_kind"][place]
        sequence[step, 3] = state["ring_channel"][place]
        sequence[step, 4] = state["ring_mcc"][place]
        sequence[step, 5] = _local_hour(at_ms, state["ring_utc_offset"][place])
    sequence[_T - 1, 0] = row["amount"]
    sequence[_T - 1, 1] = 0.0
    sequence[_T - 1, 2] = row["kind"]
    sequence[_T - 1, 3] = row["channel"]
    sequence[_T - 1, 4] = row["mcc"]
    sequence[_T - 1, 5] = _local_hour(event_ms, row["utc_offset"])


@njit(nogil=True, cache=True)
def _write_before(state, row, plan, vector):
    """Write the features that look at the state before the row."""
    before_count, before_spend, _ = _card_window(state, 3, row["event_ms"])
    for position in range(plan.shape[0]):
        aggregation = plan[position, 0]
        if _AMOUNT <= aggregation <= _WEEKEND:
            vector[position] = _plain_feature(aggregation, state, row, before_count, before_spend)


@njit(nogil=True, cache=True)
def _write_after(state, event_ms, plan, vector):
    """Write the card's windows, from the state after the row."""
    counts = np.empty(4, np.int64)
    spends = np.empty(4, np.int64)
    largests = np.empty(4, np.int64)
    for window in range(4):
        counts[window], spends[window], largests[window] = _card_window(state, window, event_ms)
    for position in range(plan.shape[0]):
        aggregation = plan[position, 0]
        if aggregation <= _MAX:
            window = plan[position, 1]
            vector[position] = _window_feature(
                aggregation, counts[window], spends[window], largests[window]
            )


@njit(nogil=True, cache=True)
def _write_terminal(event_ms, terminal, label, plan, vector):
    """Write the features of the row's terminal."""
    for position in range(plan.shape[0]):
        aggregation = plan[position, 0]
        if aggregation >= _TERMINAL_COUNT:
            vector[position] = _terminal_feature(
                aggregation, plan[position, 1], event_ms, terminal, label
            )


@njit(nogil=True, cache=True)
def _write_no_terminal(plan, vector):
    """Write missing values for the features of a terminal that the row does not have."""
    for position in range(plan.shape[0]):
        if plan[position, 0] >= _TERMINAL_COUNT:
            vector[position] = np.nan


@njit(nogil=True, cache=True)
def _expire_card(state, event_ms):
    """Empty a state that nothing touched for longer than the expiry."""
    if state["rows"] > 0 and event_ms - state["previous_ms"] > _EXPIRY_MS:
        _empty_card(state)


@njit(nogil=True, cache=True)
def advance_cards(states, state_of, rows, terminals, labels, terminal_of, plan, vectors, sequences):
    """Compute features and sequences of rows in order, and move their cards' states on.

    Args:
        states: `CARD_STATE` [cards], changed in place.
        state_of: int64 [B], the state of each row.
        rows: `ROW` [B], in the order of the log.
        terminals: `TERMINAL_STATE` [terminals], read only.
        labels: `LABEL_STATE` [terminals], read only.
        terminal_of: int64 [B], the terminal of each row, -1 for none.
        plan: int64 [F, 2] from `kernel_plan`.
        vectors: float32 [B, F], written.
        sequences: float32 [B, T, C], written.
    """
    for position in range(rows.shape[0]):
        row = rows[position]
        state = states[state_of[position]]
        vector = vectors[position]
        _expire_card(state, row["event_ms"])
        _write_before(state, row, plan, vector)
        _write_sequence(state, row, sequences[position])
        _advance_card(state, row)
        _write_after(state, row["event_ms"], plan, vector)
        if terminal_of[position] < 0:
            _write_no_terminal(plan, vector)
        else:
            place = terminal_of[position]
            _write_terminal(row["event_ms"], terminals[place], labels[place], plan, vector)


@njit(nogil=True, cache=True)
def _advance_terminal(terminal, event_ms, amount, kind):
    """Move a terminal's counts on by one purchase."""
    if kind != _PURCHASE:
        return
    heads = terminal["head"]
    minute, hour, day = event_ms // MINUTE_MS, event_ms // HOUR_MS, event_ms // DAY_MS
    if minute > heads[0]:
        _clear_passed(terminal["minute_count"], 0, TERMINAL_MINUTES, heads[0], minute)
        heads[0] = minute
    if minute > heads[0] - TERMINAL_MINUTES:
        terminal["minute_count"][minute % TERMINAL_MINUTES] += 1
    if hour > heads[1]:
        _clear_passed(terminal["hour_count"], 0, TERMINAL_HOURS, heads[1], hour)
        _clear_passed(terminal["hour_spend"], 0, TERMINAL_HOURS, heads[1], hour)
        heads[1] = hour
    if hour > heads[1] - TERMINAL_HOURS:
        terminal["hour_count"][hour % TERMINAL_HOURS] += 1
        terminal["hour_spend"][hour % TERMINAL_HOURS] += amount
    if day > heads[2]:
        _clear_passed(terminal["day_count"], 0, TERMINAL_DAYS, heads[2], day)
        heads[2] = day
    if day > heads[2] - TERMINAL_DAYS:
        terminal["day_count"][day % TERMINAL_DAYS] += 1


@njit(nogil=True, cache=True)
def _advance_label(label, event_ms, change):
    """Move a terminal's count of known frauds by `change` (+1, -1 or 0) on the day of the event."""
    day = event_ms // DAY_MS
    if day > label["head"]:
        _clear_passed(label["day_fraud"], 0, TERMINAL_DAYS, label["head"], day)
        label["head"] = day
    if day > label["head"] - TERMINAL_DAYS:
        label["day_fraud"][day % TERMINAL_DAYS] += change


@njit(nogil=True, cache=True)
def advance_terminals(terminals, terminal_of, event_ms, amounts, kinds):
    """Move terminals' counts on, rows in order.

    Args:
        terminals: `TERMINAL_STATE` [terminals], changed in place.
        terminal_of: int64 [B], the terminal of each row.
        event_ms: int64 [B].
        amounts: int64 [B], reference minor units.
        kinds: int64 [B], numbers of `TransactionKind`; only purchases count.
    """
    for position in range(terminal_of.shape[0]):
        _advance_terminal(
            terminals[terminal_of[position]],
            event_ms[position],
            amounts[position],
            kinds[position],
        )


@njit(nogil=True, cache=True)
def advance_labels(labels, label_of, event_ms, changes):
    """Move terminals' counts of known frauds, rows in order.

    Args:
        labels: `LABEL_STATE` [terminals], changed in place.
        label_of: int64 [B], the terminal of each row.
        event_ms: int64 [B], event time of the labelled transaction.
        changes: int64 [B], +1, -1 or 0.
    """
    for position in range(label_of.shape[0]):
        _advance_label(labels[label_of[position]], event_ms[position], changes[position])


@njit(nogil=True, cache=True)
def replay_rows(
    cards,
    terminals,
    labels,
    rows,
    card_of,
    terminal_of,
    append_ms,
    label_row,
    label_ms,
    wanted,
    plan,
    vectors,
    sequences,
):  # one call a history: arrays, no objects
    """Walk a history in arrival order: labels as they arrive, then the row, then its terminal.

    Args:
        cards: `CARD_STATE` [cards], changed in place.
        terminals: `TERMINAL_STATE` [terminals], changed in place.
        labels: `LABEL_STATE` [terminals], changed in place.
        rows: `ROW` [N], in arrival order.
        card_of: int64 [N].
        terminal_of: int64 [N], -1 for none.
        append_ms: int64 [N], arrival time of each row.
        label_row: int64 [L], rows that became known frauds, by arrival of the label.
        label_ms: int64 [L], when each of these labels arrived.
        wanted: int64 [N], where to write a row's features, -1 for nowhere.
        plan: int64 [F, 2] from `kernel_plan`.
        vectors: float32 [K, F], written.
        sequences: float32 [K, T, C], written.

    Returns:
        How many labels were applied.
    """
    next_label = 0
    for position in range(rows.shape[0]):
        while next_label < label_row.shape[0] and label_ms[next_label] <= append_ms[position]:
            labelled = label_row[next_label]
            if terminal_of[labelled] >= 0:
                _advance_label(labels[terminal_of[labelled]], rows[labelled]["event_ms"], 1)
            next_label += 1
        row = rows[position]
        event_ms = row["event_ms"]
        state = cards[card_of[position]]
        place = wanted[position]
        terminal = terminal_of[position]
        _expire_card(state, event_ms)
        if place >= 0:
            _write_before(state, row, plan, vectors[place])
            _write_sequence(state, row, sequences[place])
        _advance_card(state, row)
        if place >= 0:
            _write_after(state, event_ms, plan, vectors[place])
            if terminal < 0:
                _write_no_terminal(plan, vectors[place])
            else:
                _write_terminal(
                    event_ms, terminals[terminal], labels[terminal], plan, vectors[place]
                )
        if terminal >= 0:
            _advance_terminal(terminals[terminal], event_ms, row["amount"], row["kind"])
    return next_label


def empty_outputs(rows: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return room for the vectors float32 [rows, F] and sequences float32 [rows, T, C].

    >>> [room.shape[0] for room in empty_outputs(3)]
    [3, 3]
    """
    features = kernel_plan().shape[0]
    return (
        np.empty((rows, features), np.float32),
        np.empty((rows, SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS)), np.float32),
    )


def warm_up() -> None:
    """Compile every kernel, so that no request waits for it. Takes seconds without a cache."""
    rows = np.zeros(1, ROW)
    zero, none = np.zeros(1, np.int64), np.full(1, -1, np.int64)
    vectors, sequences = empty_outputs(1)
    cards, plan = np.zeros(1, CARD_STATE), kernel_plan()
    terminals, labels = np.zeros(1, TERMINAL_STATE), np.zeros(1, LABEL_STATE)
    advance_cards(cards, zero, rows, terminals, labels, none, plan, vectors, sequences)
    advance_terminals(terminals, zero, zero, zero, zero)
    advance_labels(labels, zero, zero, zero)
