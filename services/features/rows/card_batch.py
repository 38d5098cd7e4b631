"""Run the kernel over one shard's counted rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.state import DAY_MS, EXPIRY_D, rows_of
from fraudstream.features.stored_values import CARD_VALUE, empty_unsound, unpack_values
from fraudstream.store.entity_reader import SharedView
from fraudstream.store.shard import ShardRef
from fraudstream.telemetry.metrics import CORRUPT_STATES
from services.features.rows.accepted_rows import AcceptedRow

_EXPIRY_MS = EXPIRY_D * DAY_MS


@dataclass(frozen=True, slots=True)
class CardBatch:
    """Counted rows of one shard with their features, and the states after them.

    Attributes:
        shard: The shard.
        from_offset: Where the batch begins.
        rows: Counted rows, in log order.
        vectors: float32 [B, F].
        sequences: float32 [B, T, C].
        unusual: int8 [B], whether each is an unusual purchase of its card.
        previous_ms: Event time of each card's row before, 0 for none: one of each row.
        cards: Their cards, in the order of `values`.
        values: `CARD_VALUE` [cards], moved on.
        shared: What the shared entities' shards said.
    """

    shard: ShardRef
    from_offset: int
    rows: Sequence[AcceptedRow]
    vectors: npt.NDArray[np.float32]
    sequences: npt.NDArray[np.float32]
    unusual: npt.NDArray[np.int8]
    previous_ms: Sequence[int]
    cards: Sequence[str]
    values: npt.NDArray[np.void]
    shared: SharedView

    def packed_cards(self) -> Iterator[tuple[str, bytes]]:
        """Yield each card's token and packed value."""
        size, packed = CARD_VALUE.itemsize, self.values.tobytes()
        for index, card in enumerate(self.cards):
            yield card, packed[index * size : (index + 1) * size]


def advance_batch(
    shard: ShardRef,
    from_offset: int,
    rows: Sequence[AcceptedRow],
    stored: Mapping[str, bytes | None],
    shared: SharedView,
) -> CardBatch:
    """Compute the features of counted rows, in order, and move their cards' states on."""
    cards = list(dict.fromkeys(row.card_token for row in rows))
    index_of = {card: index for index, card in enumerate(cards)}
    values = unpack_values([stored[card] for card in cards], CARD_VALUE)
    CORRUPT_STATES.inc(empty_unsound(values))
    states = np.ascontiguousarray(values["state"])
    state_of = np.array([index_of[row.card_token] for row in rows], dtype=np.int64)
    previous_ms = _previous_times(rows, state_of, states["previous_ms"].tolist())
    packed = rows_of([row.accepted.transaction for row in rows])
    vectors, sequences = outputs = empty_outputs(len(rows))
    unusual = advance_cards(states, state_of, packed, outputs, np.arange(len(rows)))
    shared.write_features([row.entities for row in rows], packed, vectors)
    values["state"] = states
    # A card's last row of the batch comes last, so its vector is the one that stays.
    values["vector"][state_of] = vectors
    values["decided_ms"][state_of] = packed["event_ms"]
    return CardBatch(
        shard, from_offset, rows, vectors, sequences, unusual, previous_ms, cards, values, shared
    )


def _previous_times(
    rows: Sequence[AcceptedRow], state_of: npt.NDArray[np.int64], previous_ms: list[int]
) -> list[int]:
    """Return the newest event time of each row's card before the row, 0 for none or expired."""
    before = []
    for row, index in zip(rows, state_of.tolist(), strict=True):
        event_ms = row.accepted.transaction.event_time_ms
        is_expired = event_ms - previous_ms[index] > _EXPIRY_MS
        before.append(0 if is_expired else previous_ms[index])
        previous_ms[index] = max(previous_ms[index], event_ms)
    return before
