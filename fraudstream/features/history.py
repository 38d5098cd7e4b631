"""The offline driver: a history in arrival order through the same kernels as the stream.

Cards first, each row in its turn, then every kind of shared entity: a shared entity's log is made
of the rows that its cards' states judged, as on the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.catalogue import SEQUENCE_LENGTH, SHARED_ENTITIES, Entity
from fraudstream.features.entity_kernel import Readers, replay_shared
from fraudstream.features.state import CARD_STATE, SHARED_ROW, SHARED_STATE

Ints = npt.NDArray[np.int64]
Numbers = Mapping[Entity, Ints]


@dataclass(frozen=True, slots=True)
class Labels:
    """Changes of what is known of earlier transactions, in order of arrival; arrays of [L].

    Attributes:
        arrival_ms: When each arrived.
        event_ms: Event time of the labelled transaction.
        change: Of the known frauds: +1, or -1 where a fraud turned out to be genuine; 0 for none.
        entities: Number of each shared entity of the labelled transaction, -1 for none.
    """

    arrival_ms: Ints
    event_ms: Ints
    change: Ints
    entities: Numbers


@dataclass(frozen=True, slots=True)
class History:
    """Transactions in arrival order; arrays of [N].

    Attributes:
        rows: `state.ROW`.
        card: Number of the card, 0 to cards - 1.
        arrival_ms: When each arrived, never falling.
        entities: Number of each shared entity from 0 on, -1 for none; a kind that no row has may
            be left out. The card itself is among them, for its labels.
        labels: What became known of them, and when.
    """

    rows: npt.NDArray[np.void]
    card: Ints
    arrival_ms: Ints
    entities: Numbers
    labels: Labels


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a history leaves: features of the wanted rows, and all final states.

    Attributes:
        vectors: float32 [K, F], in the order of the wanted rows.
        sequences: float32 [K, S, C], the last steps that were asked for.
        cards: `CARD_STATE` [cards].
        shared: `SHARED_STATE` [entities] of each kind, with every label that arrived.
    """

    vectors: npt.NDArray[np.float32]
    sequences: npt.NDArray[np.float32]
    cards: npt.NDArray[np.void]
    shared: Mapping[Entity, npt.NDArray[np.void]]


def fraud_labels(event_ms: Ints, entities: Numbers, label_arrival_ms: Ints) -> Labels:
    """Return the labels of rows that turned out to be frauds.

    Args:
        event_ms: int64 [N], event time of each row.
        entities: Numbers of their entities, each int64 [N].
        label_arrival_ms: int64 [N], when the fraud label arrived, -1 for a row without one.

    >>> one = np.array([5, 6])
    >>> fraud_labels(one, {}, np.array([-1, 9])).event_ms.tolist()
    [6]
    """
    known = np.flatnonzero(label_arrival_ms >= 0)
    known = known[np.argsort(label_arrival_ms[known], kind="stable")]
    return Labels(
        label_arrival_ms[known].astype(np.int64),
        event_ms[known],
        np.ones(len(known), np.int64),
        {entity: numbers[known] for entity, numbers in entities.items()},
    )


def replay_history(
    history: History, wanted: npt.NDArray[np.bool_], steps: int = SEQUENCE_LENGTH
) -> Replayed:
    """Compute features of the wanted rows, each from what had arrived before it.

    Args:
        history: All rows, wanted or not: they all move the states.
        wanted: bool [N], rows whose features are kept.
        steps: Last steps of each sequence, 1 (the row itself) to T.

    Returns:
        Features of the wanted rows and the final states. Memory: about 0.3 KB a wanted row and
        24 bytes a step, 2.5 KB a card, 1 KB a shared entity. Cost: about two microseconds a row.
    """
    indices = np.where(wanted, np.cumsum(wanted) - 1, -1).astype(np.int64)
    outputs = empty_outputs(int(wanted.sum()), steps)
    cards = np.zeros(int(history.card.max(initial=-1)) + 1, CARD_STATE)
    unusual = advance_cards(cards, history.card, history.rows, outputs, indices)
    readers = np.flatnonzero(wanted)
    shared = {}
    for entity in SHARED_ENTITIES:
        if entity in history.entities:
            walk = shared_walk(history, entity, readers, unusual)
            shared[entity] = np.zeros(walk.states, SHARED_STATE)
            replay_shared(entity, shared[entity], walk.log, walk.readers, outputs[0])
    return Replayed(outputs[0], outputs[1], cards, shared)


@dataclass(frozen=True, slots=True)
class SharedWalk:
    """One kind of shared entity through a history, ready for the kernel.

    Attributes:
        states: How many states it takes.
        log: State of each row of the entity's log, int64 [B], and the rows, `SHARED_ROW` [B].
        readers: Who reads what, after how many rows; vector k belongs to the kth wanted row.
    """

    states: int
    log: tuple[Ints, npt.NDArray[np.void]]
    readers: Readers


def shared_walk(
    history: History, entity: Entity, wanted: Ints, unusual: npt.NDArray[np.int8]
) -> SharedWalk:
    """Return the log of one kind of entity, and the wanted rows as its readers.

    Args:
        history: All rows.
        entity: A kind that `history.entities` numbers.
        wanted: int64 [K], rows whose features are kept, rising.
        unusual: int8 [N], as `advance_cards` returns it.

    >>> from fraudstream.features.state import ROW
    >>> one, rows = np.zeros(1, np.int64), np.zeros(1, ROW)
    >>> numbers = {Entity.TERMINAL: one}
    >>> labels = fraud_labels(one, numbers, np.full(1, -1))
    >>> history = History(rows, one, one, numbers, labels)
    >>> shared_walk(history, Entity.TERMINAL, one, np.zeros(1, np.int8)).states
    1
    """
    numbers = history.entities[entity]
    return _Log(history, entity, numbers, unusual).walk(wanted)


_NO_ROWS: Final = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class _Log:
    """What moves one kind of shared entity on in a history."""

    history: History
    entity: Entity
    numbers: Ints
    unusual: npt.NDArray[np.int8]

    def walk(self, wanted: Ints) -> SharedWalk:
        """Return the log in order of arrival, and the wanted rows as its readers."""
        history, labels = self.history, self.history.labels
        of_labels = labels.entities.get(self.entity, _NO_ROWS)
        label_at = np.flatnonzero(of_labels >= 0)
        label_ms = labels.arrival_ms[label_at]
        is_counted = self._is_counted()
        row_at = np.flatnonzero(is_counted)
        log = np.zeros(len(label_at) + len(row_at), SHARED_ROW)
        state_of = np.empty(len(log), np.int64)
        is_label = np.zeros(len(log), np.bool_)
        # Of what arrived at once, labels come first.
        rows_before = np.searchsorted(history.arrival_ms[row_at], label_ms)
        is_label[rows_before + np.arange(len(label_at))] = True
        self._place_labels(log, is_label, label_at)
        self._place_transactions(log, ~is_label, row_at)
        state_of[is_label], state_of[~is_label] = of_labels[label_at], self.numbers[row_at]
        size = 1 + max(int(self.numbers.max(initial=0)), int(of_labels.max(initial=0)))
        has_entity = self.numbers[wanted] >= 0
        reading = wanted[has_entity]
        after = np.searchsorted(label_ms, history.arrival_ms[reading], side="right")
        readers = Readers(
            after + (np.cumsum(is_counted) - is_counted)[reading],
            self.numbers[reading],
            history.rows["event_ms"][reading],
            history.rows["amount"][reading],
            np.flatnonzero(has_entity),
        )
        return SharedWalk(size, (state_of, log), readers)

    def _is_counted(self) -> npt.NDArray[np.bool_]:
        """Return which rows count at this kind of entity; at the card itself only labels do."""
        if self.entity is Entity.CARD:
            return np.zeros(len(self.numbers), np.bool_)
        return self.numbers >= 0

    def _place_labels(
        self, log: npt.NDArray[np.void], index: npt.NDArray[np.bool_], label_at: Ints
    ) -> None:
        for name in ("event_ms", "change"):
            log[name][index] = getattr(self.history.labels, name)[label_at]

    def _place_transactions(
        self, log: npt.NDArray[np.void], index: npt.NDArray[np.bool_], row_at: Ints
    ) -> None:
        for name in ("event_ms", "amount", "kind"):
            log[name][index] = self.history.rows[name][row_at]
        log["is_unusual"][index] = self.unusual[row_at]
