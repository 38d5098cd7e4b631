"""The feature kernel equals a recount in plain Python, in all its drivers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from fraudstream.features.card_kernel import advance_states
from fraudstream.features.catalogue import (
    CATALOGUE,
    FEATURE_NAMES,
    SHARED_ENTITIES,
    Aggregation,
)
from fraudstream.features.history import replay_history
from fraudstream.features.state import CARD_STATE
from fraudstream.features.stored_values import CARD_VALUE
from fraudstream.store.shard import AdmitOutcome, DoorAnswer, PendingEntry
from services.scoring.authorise.preview import preview_rows
from tests.property.histories import CARDS, histories
from tests.property.kernel_histories import (
    StreamedStates,
    by_name,
    history_of,
    ints,
    keys_of,
    packed,
    stream,
)
from tests.property.recount import Recount
from tests.property.rows import NONE, PURCHASE, Row

_EXAMPLES = settings(max_examples=80, deadline=None)
# Sine and arc sine are not the same to the last bit in every library.
_ROUNDED: Final = [
    place
    for place, feature in enumerate(CATALOGUE)
    if feature.aggregation in {Aggregation.KM_FROM_PREVIOUS, Aggregation.SPEED_KMH}
]


def _same(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    return np.array_equal(one, other, equal_nan=True)


def _recounted(recount: Recount, position: int) -> npt.NDArray[np.float32]:
    found = [
        recount.feature(position, f.entity.value, f.aggregation.name.lower(), f.window_h)
        for f in CATALOGUE
    ]
    return np.array(found, np.float32)


def _agreed(
    vector: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return the recount, where it must not be met to the bit with what is one step beside it."""
    agreed = expected.copy()
    for place in _ROUNDED:
        own = vector[place]
        beside = (np.nextafter(own, np.float32(-np.inf)), np.nextafter(own, np.float32(np.inf)))
        if expected[place] in beside:
            agreed[place] = own
    return agreed


@_EXAMPLES
@given(histories())
def test_features_equal_a_recount_for_any_order_of_arrival(rows: list[Row]) -> None:
    """Every feature of every row is what counting all rows before it again gives, to the bit."""
    replayed = replay_history(history_of(rows), np.ones(len(rows), np.bool_))

    recount = Recount(rows)
    for position, vector in enumerate(replayed.vectors):
        expected = _agreed(vector, _recounted(recount, position))
        assert _same(vector, expected), (position, by_name(vector), by_name(expected))


@_EXAMPLES
@given(histories())
def test_sequence_is_the_last_transactions_in_order_of_arrival(rows: list[Row]) -> None:
    """A sequence holds the card's last 32 rows, padded at the front, the row itself last."""
    replayed = replay_history(history_of(rows), np.ones(len(rows), np.bool_))

    recount = Recount(rows)
    for position, sequence in enumerate(replayed.sequences):
        assert _same(sequence, np.array(recount.sequence(position), np.float32))


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
    for entity in SHARED_ENTITIES:
        assert some.shared[entity].tobytes() == every.shared[entity].tobytes()


@_EXAMPLES
@given(histories(), st.lists(st.integers(0, 60), max_size=5))
def test_a_batch_equals_its_rows_in_any_split(rows: list[Row], cuts: list[int]) -> None:
    """Where a poll ends changes neither features nor states."""
    whole, split = StreamedStates(), StreamedStates()
    vectors, sequences, unusual = whole.advance(rows)

    borders = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    parts = [split.advance(rows[a:b]) for a, b in itertools.pairwise(borders)]

    assert _same(np.concatenate([part[0] for part in parts]), vectors)
    assert _same(np.concatenate([part[1] for part in parts]), sequences)
    assert np.concatenate([part[2] for part in parts]).tolist() == unusual.tolist()
    assert split.cards.tobytes() == whole.cards.tobytes()


@_EXAMPLES
@given(histories())
def test_offline_replay_equals_the_drivers_of_the_stream(rows: list[Row]) -> None:
    """A training set is computed by what serves: same features, and the same final states."""
    states, vectors = stream(rows)

    replayed = replay_history(history_of(rows), np.ones(len(rows), np.bool_))

    assert _same(replayed.vectors, vectors)
    assert replayed.cards.tobytes() == states.cards[: len(replayed.cards)].tobytes()
    for entity in SHARED_ENTITIES:
        found = replayed.shared[entity]
        assert found.tobytes() == states.shared[entity][: len(found)].tobytes()


@_EXAMPLES
@given(histories())
def test_rebuilding_states_alone_gives_the_same_states(rows: list[Row]) -> None:
    """A rebuild computes no features, and leaves what the stream leaves."""
    states = np.zeros(CARDS, CARD_STATE)

    advance_states(states, ints([row.card for row in rows]), packed(rows))

    whole = StreamedStates()
    whole.advance(rows)
    assert states.tobytes() == whole.cards.tobytes()


# Within a minute of each other, so that no bucket of any level is given up on the way; every
# minute, five minutes, hour and day has its border among them.
_MOMENTS_MS = st.integers(19_678 * 86_400_000 - 30_000, 19_678 * 86_400_000 + 29_999)


@_EXAMPLES
@given(histories(most=20), st.data())
def test_final_counts_do_not_depend_on_the_order_of_arrival(
    rows: list[Row], data: st.DataObject
) -> None:
    """Where nothing fell out of the buckets, they end as those of sorted input."""
    rows = [replace(row, event_ms=data.draw(_MOMENTS_MS), flips=()) for row in rows]
    mixed = data.draw(st.permutations(rows))

    sorted_states, mixed_states = StreamedStates(), StreamedStates()
    for states, ordered in (
        (sorted_states, sorted(rows, key=lambda row: row.event_ms)),
        (mixed_states, mixed),
    ):
        for row in ordered:
            states.advance([row])
            states.count(row, is_unusual=row.amount == rows[0].amount)
            states.label(row, 1 if row.amount % 2 else 0)

    for field in ("head", "count", "spend", "largest", "previous_ms", "first_ms", "rows"):
        assert np.array_equal(sorted_states.cards[field], mixed_states.cards[field]), field
    for entity in SHARED_ENTITIES:
        assert sorted_states.shared[entity].tobytes() == mixed_states.shared[entity].tobytes()


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
    states, _ = stream(rows)
    states.cards[:] = np.zeros(1, CARD_STATE)
    card = rows[-1].card
    rows = [row for row in rows if row.card == card]
    before, own = rows[:-1], rows[-1]
    stored = min(stored, len(before))
    waiting = before[stored : stored + pending]
    states.advance(before[:stored] or [])
    value = np.zeros(1, CARD_VALUE)
    value["state"] = states.cards[card]
    answer = DoorAnswer(AdmitOutcome.ADMITTED, b"", value.tobytes(), _pending(waiting), 0)
    view = states.view()
    kept = view.states.tobytes()

    seen = preview_rows([answer], [packed([own]).tobytes()], [keys_of(own)], view)

    expected = states.advance([*waiting, own])
    assert _same(seen.vectors[0], expected[0][-1])
    assert _same(seen.sequences[0], expected[1][-1])
    assert seen.newest_ms == [max((row.event_ms for row in before[: stored + pending]), default=0)]
    assert answer.state == value.tobytes()
    assert view.states.tobytes() == kept


def _purchase(card: int, event_ms: int, amount: int) -> Row:
    return Row(
        card=card,
        customer=0,
        terminal=0,
        merchant=0,
        device=0,
        ip=0,
        country="GB",
        latitude=0.0,
        longitude=0.0,
        event_ms=event_ms,
        append_ms=10**12,
        amount=amount,
        kind=PURCHASE,
        channel=1,
        mcc=5411,
        utc_offset=0,
        label_ms=NONE,
    )


def test_preview_of_a_burst_keeps_cards_apart() -> None:
    """Rows of several cards in one call see their own state only, in their own order."""
    rows = [_purchase(card, 10**12 + card, 100 + card) for card in range(CARDS)]
    states = StreamedStates()
    states.advance([_purchase(0, 10**12, 100)])
    values = np.zeros(CARDS, CARD_VALUE)
    values["state"] = states.cards
    answers = [
        DoorAnswer(AdmitOutcome.ADMITTED, b"", values[card : card + 1].tobytes(), (), 0)
        for card in range(CARDS)
    ]

    own = [packed([row]).tobytes() for row in rows]
    seen = preview_rows(answers, own, [keys_of(row) for row in rows], states.view())

    counts = seen.vectors[:, FEATURE_NAMES.index("card_count_1h")]
    assert counts.tolist() == [2.0, 1.0]
