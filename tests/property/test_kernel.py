"""The feature kernel equals a recount in plain Python, in all its drivers."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.codec import CARD_VALUE
from fraudstream.features.history import replay_history
from fraudstream.features.kernel import advance_labels, advance_terminals
from fraudstream.features.preview import preview_rows
from fraudstream.features.state import ROW
from fraudstream.shard import AdmitOutcome, DoorAnswer, PendingEntry
from fraudstream.shared_entities import SharedView
from tests.property.histories import (
    CARDS,
    TERMINALS,
    StreamedStates,
    by_name,
    histories,
    history_of,
    ints,
    packed,
)
from tests.property.recount import NEVER, NO_TERMINAL, Row, recount_row, recount_sequence

_EXAMPLES = settings(max_examples=80, deadline=None)


def _same(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    return np.array_equal(one, other, equal_nan=True)


def _recounted(rows: list[Row], position: int) -> npt.NDArray[np.float32]:
    features = recount_row(rows, position)
    if rows[position].terminal == NO_TERMINAL:
        features |= {n: float("nan") for n in FEATURE_NAMES if n not in features}
    return np.array([features[name] for name in FEATURE_NAMES], np.float32)


@_EXAMPLES
@given(histories())
def test_features_equal_a_recount_for_any_order_of_arrival(rows: list[Row]) -> None:
    """Every feature of every row is what counting all rows before it again gives, to the bit."""
    replayed = replay_history(history_of(rows), np.ones(len(rows), np.bool_))

    for position, vector in enumerate(replayed.vectors):
        expected = _recounted(rows, position)
        assert _same(vector, expected), (position, by_name(vector), by_name(expected))


@_EXAMPLES
@given(histories())
def test_sequence_is_the_last_transactions_in_order_of_arrival(rows: list[Row]) -> None:
    """A sequence holds the card's last 32 rows, padded at the front, the row itself last."""
    replayed = replay_history(history_of(rows), np.ones(len(rows), np.bool_))

    for position, sequence in enumerate(replayed.sequences):
        assert _same(sequence, np.array(recount_sequence(rows, position), np.float32))


@_EXAMPLES
@given(histories(), st.data())
def test_features_of_wanted_rows_do_not_depend_on_what_else_is_wanted(
    rows: list[Row], data: st.DataObject
) -> None:
    """A replay that keeps some rows gives them what a replay that keeps all gives them."""
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    every = replay_history(history_of(rows), np.ones(len(rows), np.bool_))

    some = replay_history(history_of(rows), wanted)

    assert _same(some.vectors, every.vectors[wanted])
    assert _same(some.sequences, every.sequences[wanted])
    assert some.cards.tobytes() == every.cards.tobytes()


@_EXAMPLES
@given(histories(), st.lists(st.integers(0, 60), max_size=5))
def test_a_batch_equals_its_rows_in_any_split(rows: list[Row], cuts: list[int]) -> None:
    """Where a poll ends changes neither features nor states."""
    whole, split = StreamedStates(), StreamedStates()
    vectors, sequences = whole.advance(rows)

    borders = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    parts = [split.advance(rows[a:b]) for a, b in itertools.pairwise(borders)]

    assert _same(np.concatenate([part[0] for part in parts]), vectors)
    assert _same(np.concatenate([part[1] for part in parts]), sequences)
    assert split.cards.tobytes() == whole.cards.tobytes()


def _apply_labels(states: StreamedStates, rows: list[Row]) -> None:
    known = [row for row in rows if row.terminal != NO_TERMINAL]
    advance_labels(
        states.labels,
        ints([row.terminal for row in known]),
        ints([row.event_ms for row in known]),
        np.ones(len(known), np.int64),
    )


def _count_at_terminal(states: StreamedStates, row: Row) -> None:
    if row.terminal != NO_TERMINAL:
        advance_terminals(
            states.terminals,
            ints([row.terminal]),
            ints([row.event_ms]),
            ints([row.amount]),
            ints([row.kind]),
        )


def _stream(rows: list[Row]) -> tuple[StreamedStates, list[npt.NDArray[np.float32]]]:
    """Walk a history with the three drivers of the stream, each row in its turn."""
    states = StreamedStates()
    waiting = sorted((row for row in rows if row.label_ms != NEVER), key=lambda row: row.label_ms)
    vectors = []
    for row in rows:
        arrived = [label for label in waiting if label.label_ms <= row.append_ms]
        waiting = waiting[len(arrived) :]
        _apply_labels(states, arrived)
        vectors.append(states.advance([row])[0][0])
        _count_at_terminal(states, row)
    return states, vectors


@_EXAMPLES
@given(histories())
def test_offline_replay_equals_the_drivers_of_the_stream(rows: list[Row]) -> None:
    """A training set is computed by what serves: same features, and the same final states."""
    states, vectors = _stream(rows)

    replayed = replay_history(history_of(rows), np.ones(len(rows), np.bool_))

    assert _same(replayed.vectors, np.stack(vectors))
    cards, terminals = len(replayed.cards), len(replayed.terminals)
    assert replayed.cards.tobytes() == states.cards[:cards].tobytes()
    assert replayed.terminals.tobytes() == states.terminals[:terminals].tobytes()
    assert replayed.labels.tobytes() == states.labels[:terminals].tobytes()


def _pending(rows: list[Row]) -> tuple[PendingEntry, ...]:
    lines = packed(rows)
    return tuple(
        PendingEntry(bytes([place] * 16), bytes(32), 0, lines[place : place + 1].tobytes())
        for place in range(len(rows))
    )


@_EXAMPLES
@given(histories(most=40), st.integers(0, 40), st.integers(0, 40))
def test_preview_equals_advance_and_leaves_the_state_alone(
    rows: list[Row], stored: int, pending: int
) -> None:
    """At authorisation a row sees the stored state, then what is pending, as if all had passed."""
    card = rows[-1].card
    rows = [row for row in rows if row.card == card]
    before, own = rows[:-1], rows[-1]
    stored = min(stored, len(before))
    waiting = before[stored : stored + pending]
    states = StreamedStates()
    states.advance(before[:stored] or [])
    value = np.zeros(1, CARD_VALUE)
    value["state"] = states.cards[card]
    answer = DoorAnswer(AdmitOutcome.ADMITTED, b"", value.tobytes(), _pending(waiting), 0)
    keys = {str(number): number for number in range(TERMINALS)}
    view = SharedView(states.terminals, states.labels, keys, dict.fromkeys(keys, 0))

    key = "" if own.terminal == NO_TERMINAL else str(own.terminal)
    vectors, sequences = preview_rows([answer], packed([own]), [key], view)

    expected = states.advance([*waiting, own])
    assert _same(vectors[0], expected[0][-1])
    assert _same(sequences[0], expected[1][-1])
    assert answer.state == value.tobytes()


def test_preview_of_a_burst_keeps_cards_apart() -> None:
    """Rows of several cards in one call see their own state only, in their own order."""
    base = Row(0, 0, 10**12, 10**12, 100, 1, 1, 5411, 0, NEVER)
    rows = [Row(card, 0, 10**12 + card, 10**12, 100 + card, 1, 1, 0, 0, NEVER) for card in (0, 1)]
    states = StreamedStates()
    states.advance([base])
    values = np.zeros(CARDS, CARD_VALUE)
    values["state"] = states.cards
    answers = [
        DoorAnswer(AdmitOutcome.ADMITTED, b"", values[card : card + 1].tobytes(), (), 0)
        for card in (0, 1)
    ]
    view = SharedView(states.terminals, states.labels, {"0": 0}, {"0": 0})

    vectors, _ = preview_rows(answers, packed(rows), ["0", "0"], view)

    counts = [by_name(vector)["card_count_1h"] for vector in vectors]
    assert counts == [2.0, 1.0]
    assert packed(rows).dtype == ROW
