"""The histories of the recount as the kernels take them, and the stream's drivers over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.catalogue import FEATURE_NAMES, SHARED_ENTITIES, Entity
from fraudstream.features.entity_kernel import advance_shared
from fraudstream.features.history import History, Labels
from fraudstream.features.state import (
    CARD_STATE,
    ROW,
    SHARED_ROW,
    SHARED_STATE,
    VALUES,
    country_number,
)
from fraudstream.features.stored_values import EntityKeys
from fraudstream.store.entity_reader import SharedView
from tests.property.histories import CARDS, ENTITIES
from tests.property.recount import changes_of
from tests.property.rows import NONE, PURCHASE, Row

Floats = npt.NDArray[np.float32]
_SIZE = max(CARDS, ENTITIES)
_NUMBERED = VALUES[:4]  # the others are numbers of their own


def ints(numbers: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return numbers as int64 [n]."""
    return np.array(numbers, np.int64)


def number_of(row: Row, entity: Entity) -> int:
    """Return the number of a row's entity of a kind, `NONE` for none."""
    return int(getattr(row, entity.value))


def packed(rows: Sequence[Row]) -> npt.NDArray[np.void]:
    """Return rows as the kernel reads them, dtype `ROW` [B]."""
    out = np.zeros(len(rows), ROW)
    for place, name in enumerate(_NUMBERED):
        numbers = ints([number_of(row, Entity(name)) for row in rows])
        out["value"][:, place] = np.where(numbers == NONE, 0, numbers + 2**31)
    countries = [country_number(str(row.country)) for row in rows]
    out["value"][:, VALUES.index("country")] = countries
    out["value"][:, VALUES.index("mcc")] = [row.mcc for row in rows]
    for name in ("event_ms", "amount", "latitude", "longitude", "utc_offset", "kind", "channel"):
        out[name] = [getattr(row, name) for row in rows]
    return out


def labels_of(rows: Sequence[Row]) -> list[tuple[int, Row, int]]:
    """Return arrival, row and change of every label, in order of arrival."""
    labels = [(at_ms, row, change) for row in rows for at_ms, change in changes_of(row)]
    return sorted(labels, key=lambda label: label[0])


def history_of(rows: Sequence[Row]) -> History:
    """Return rows as the offline driver takes them."""
    labels = labels_of(rows)
    return History(
        rows=packed(rows),
        card=ints([row.card for row in rows]),
        arrival_ms=ints([row.append_ms for row in rows]),
        entities={e: ints([number_of(row, e) for row in rows]) for e in SHARED_ENTITIES},
        labels=Labels(
            arrival_ms=ints([at_ms for at_ms, _, _ in labels]),
            event_ms=ints([row.event_ms for _, row, _ in labels]),
            change=ints([change for _, _, change in labels]),
            entities={e: ints([number_of(r, e) for _, r, _ in labels]) for e in SHARED_ENTITIES},
        ),
    )


def keys_of(row: Row) -> EntityKeys:
    """Return the keys of a row's shared entities."""
    numbers = [number_of(row, entity) for entity in SHARED_ENTITIES]
    return tuple(["" if number == NONE else str(number) for number in numbers])


class StreamedStates:
    """States of all cards and shared entities, moved on by the drivers that the stream uses."""

    def __init__(self) -> None:
        self.cards = np.zeros(CARDS, CARD_STATE)
        self.shared = {entity: np.zeros(_SIZE, SHARED_STATE) for entity in SHARED_ENTITIES}

    def view(self) -> SharedView:
        """Return what the shards of all shared entities say now."""
        kinds = range(len(SHARED_ENTITIES))
        nowhere = [0] * _SIZE * len(kinds)
        return SharedView(
            np.concatenate([self.shared[entity] for entity in SHARED_ENTITIES]),
            nowhere,
            nowhere,
            [{str(n): kind * _SIZE + n for n in range(_SIZE)} for kind in kinds],
        )

    def advance(self, rows: Sequence[Row]) -> tuple[Floats, Floats, npt.NDArray[np.int8]]:
        """Move the cards on by one batch; return vectors, sequences, and what was unusual."""
        outputs = empty_outputs(len(rows))
        lines = packed(rows)
        cards = ints([row.card for row in rows])
        unusual = advance_cards(self.cards, cards, lines, outputs, np.arange(len(rows)))
        self.view().write_features([keys_of(row) for row in rows], lines, outputs[0])
        return *outputs, unusual

    def count(self, row: Row, *, is_unusual: bool) -> None:
        """Count a row at its shared entities, as the stream sends it: purchases only."""
        if row.kind == PURCHASE:
            line = np.zeros(1, SHARED_ROW)
            line["amount"], line["kind"], line["is_unusual"] = row.amount, row.kind, is_unusual
            self._send(row, line, [e for e in SHARED_ENTITIES if e is not Entity.CARD])

    def label(self, row: Row, change: int) -> None:
        """Tell a row's shared entities what became of it."""
        line = np.zeros(1, SHARED_ROW)
        line["change"] = change
        self._send(row, line, SHARED_ENTITIES)

    def _send(self, row: Row, line: npt.NDArray[np.void], entities: Sequence[Entity]) -> None:
        line["event_ms"] = row.event_ms
        for entity in entities:
            number = number_of(row, entity)
            if number != NONE:
                advance_shared(self.shared[entity], ints([number]), line)


def stream(rows: Sequence[Row]) -> tuple[StreamedStates, Floats]:
    """Walk a history by the stream's drivers, each row and label in its turn; return vectors."""
    states = StreamedStates()
    waiting = labels_of(rows)
    vectors = []
    for row in rows:
        arrived = [label for label in waiting if label[0] <= row.append_ms]
        waiting = waiting[len(arrived) :]
        for _, labelled, change in arrived:
            states.label(labelled, change)
        vector, _, unusual = states.advance([row])
        vectors.append(vector[0])
        states.count(row, is_unusual=bool(unusual[0]))
    for _, labelled, change in waiting:
        states.label(labelled, change)
    return states, np.stack(vectors)


def by_name(vector: Floats) -> dict[str, float]:
    """Return one vector float32 [F] by the names of its features."""
    return dict(zip(FEATURE_NAMES, vector.tolist(), strict=True))
