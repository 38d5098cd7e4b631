"""Third stage: one card shard through the kernel, and what its rows mean to other entities.

Cards are walked one after the other, a block of them at a time, so memory does not grow with the
number of cards. Leaves vectors, sequences and outcomes of the wanted rows, in order, and events by
entity kind and shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from fraudstream.features.catalogue import (
    CATALOGUE,
    SEQUENCE_CHANNELS,
    SEQUENCE_LENGTH,
    SHARED_ENTITIES,
    Entity,
)
from fraudstream.features.kernel import advance_cards, empty_outputs
from fraudstream.features.state import CARD_STATE
from fraudstream.v1.transaction_pb2 import TransactionKind
from training.offline.layout import (
    BLOCK_ROWS,
    DECIDED,
    EVENT,
    LABEL,
    NUMBERED_ROW,
    OUTCOME,
    RANGE_ROWS,
)
from training.offline.plan import Content, Plan
from training.offline.verdicts import (
    Groups,
    Judged,
    Verdicts,
    complete_labels,
    group_transactions,
    judge_rows,
    order_verdicts,
    own_labels,
)
from training.offline.work import (
    Records,
    Summary,
    fresh_folder,
    read_shard,
    shard_of,
    write_sharded,
)

_PURCHASE: Final = int(TransactionKind.TRANSACTION_KIND_PURCHASE)
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CardInputs:
    """Where the stages before left what a card shard needs.

    Attributes:
        rows: Sharded files of numbered rows, in order.
        labels: Sharded files of labels.
        decisions: Sharded files of digests.
    """

    rows: tuple[Path, ...]
    labels: tuple[Path, ...]
    decisions: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Shard:
    """A card shard: counted rows in order, and which of them are wanted."""

    rows: Records
    wanted: Mask
    unusual: NDArray[np.int8]


def input_path(folder: Path, content: Content) -> Path:
    """Return where the first stage writes what a unit holds, but for rows."""
    return folder / content.value


def walk_cards(plan: Plan, inputs: CardInputs, shard: int) -> Summary:
    """Walk one card shard; return its counts."""
    folder = fresh_folder(plan.work / "cards" / f"{shard:05}")
    rows = read_shard(inputs.rows, shard, NUMBERED_ROW)
    labels = read_shard(inputs.labels, shard, LABEL)
    decided = read_shard(inputs.decisions, shard, DECIDED)
    groups = group_transactions(rows, labels, decided)
    judged = judge_rows(rows, groups, decided)
    own, own_groups = own_labels(rows, groups, judged.counted)
    verdicts = order_verdicts(
        np.concatenate([labels, own]), np.concatenate([groups.of_labels, own_groups])
    )
    event_ms, request = rows["row"]["event_ms"], plan.request
    wanted = judged.counted & (event_ms >= request.from_ms) & (event_ms < request.until_ms)
    outcomes = _write_outcomes(plan, folder, (rows, wanted), groups, verdicts)
    counted = judged.counted
    unusual = _advance(folder, rows[counted], wanted[counted])
    lot = _Shard(rows[counted], wanted[counted], unusual)
    completed, strays = complete_labels(verdicts, rows, judged)
    for kind, entity in enumerate(SHARED_ENTITIES):
        events = np.concatenate(
            [_label_events(completed, verdicts, kind), _row_events(lot, entity, kind)]
        )
        target = shard_of(events["entity"], plan.shards)
        write_sharded(folder / f"events-{entity.value}", events, target, plan.shards)
    return _counts(judged, verdicts, strays) | {
        "wanted": len(outcomes),
        "frauds": int(outcomes["is_fraud"].sum()),
        "ranges": _ranges(outcomes["number"]),
    }


def _counts(judged: Judged, verdicts: Verdicts, strays: int) -> Summary:
    return {
        "rows": int(judged.counted.sum()),
        "duplicates": judged.duplicates,
        "conflicts": judged.conflicts,
        "labels": len(verdicts.labels),
        "labels_without_transaction": strays,
    }


def _ranges(numbers: NDArray[np.int64]) -> dict[str, int]:
    """Return how many wanted rows each range of row numbers has."""
    ranges, counts = np.unique(numbers // RANGE_ROWS, return_counts=True)
    return dict(zip(map(str, ranges.tolist()), counts.tolist(), strict=True))


def _write_outcomes(
    plan: Plan, folder: Path, chosen: tuple[Records, Mask], groups: Groups, verdicts: Verdicts
) -> Records:
    rows, wanted = chosen
    is_fraud, arrival = verdicts.final(groups, plan.request.labels_until_ms)
    kept, group = rows[wanted], groups.of_rows[wanted]
    outcomes = np.zeros(len(kept), OUTCOME)
    outcomes["number"], outcomes["arrival_ms"] = kept["number"], kept["arrival_ms"]
    outcomes["event_ms"], outcomes["amount"] = kept["row"]["event_ms"], kept["row"]["amount"]
    outcomes["is_fraud"], outcomes["label_arrival_ms"] = is_fraud[group], arrival[group]
    np.save(folder / "outcomes.npy", outcomes)
    return outcomes


def _advance(folder: Path, rows: Records, wanted: Mask) -> NDArray[np.int8]:
    """Write vectors and sequences of the wanted rows; return which rows are unusual, int8 [N]."""
    count = int(wanted.sum())
    vectors = open_memmap(folder / "vectors.npy", "w+", np.float32, (count, len(CATALOGUE)))
    steps = (count, SEQUENCE_LENGTH, len(SEQUENCE_CHANNELS))
    sequences = open_memmap(folder / "sequences.npy", "w+", np.float32, steps)
    target = np.cumsum(wanted) - 1
    unusual = np.zeros(len(rows), np.int8)
    by_card = np.argsort(rows["card"], kind="stable")
    for begin, end in blocks_of(rows["card"][by_card]):
        place = by_card[begin:end]
        is_kept = wanted[place]
        _, state_of = np.unique(rows["card"][place], return_inverse=True)
        states = np.zeros(int(state_of[-1]) + 1, CARD_STATE)
        outputs = empty_outputs(int(is_kept.sum()))
        places = np.where(is_kept, np.cumsum(is_kept) - 1, -1).astype(np.int64)
        packed = np.ascontiguousarray(rows["row"][place])
        unusual[place] = advance_cards(states, state_of.astype(np.int64), packed, outputs, places)
        vectors[target[place[is_kept]]], sequences[target[place[is_kept]]] = outputs
    return unusual


def blocks_of(names: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Yield blocks of about `BLOCK_ROWS` rows that cut no name in two; `names` is in order."""
    begin = 0
    while begin < len(names):
        last = names[min(begin + BLOCK_ROWS, len(names)) - 1]
        end = int(np.searchsorted(names, last, side="right"))
        yield begin, end
        begin = end


def _row_events(lot: _Shard, entity: Entity, kind: int) -> Records:
    """Return what transactions mean to one kind of entity; at the card itself only labels count."""
    is_purchase = (lot.rows["row"]["kind"] == _PURCHASE) & (entity is not Entity.CARD)
    kept = (lot.rows["entities"][:, kind] != 0) & (is_purchase | lot.wanted)
    rows = lot.rows[kept]
    events = np.zeros(len(rows), EVENT)
    events["entity"], events["order"] = rows["entities"][:, kind], rows["number"]
    events["arrival_ms"] = rows["arrival_ms"]
    events["event_ms"], events["amount"] = rows["row"]["event_ms"], rows["row"]["amount"]
    events["is_transaction"] = 1
    events["kind"] = np.where(is_purchase[kept], _PURCHASE, 0)
    events["is_unusual"], events["is_reader"] = lot.unusual[kept], lot.wanted[kept]
    return events


def _label_events(labels: Records, verdicts: Verdicts, kind: int) -> Records:
    kept = (labels["entities"][:, kind] != 0) & (labels["event_ms"] >= 0)
    events = np.zeros(int(kept.sum()), EVENT)
    events["entity"] = labels["entities"][kept, kind]
    events["order"] = labels["place"][kept]
    events["arrival_ms"], events["event_ms"] = labels["arrival_ms"][kept], labels["event_ms"][kept]
    events["change"] = verdicts.change[kept]
    return events


def vector_places(entity: Entity) -> Sequence[int]:
    """Return the places in the vector that a kind of shared entity fills.

    >>> len(vector_places(Entity.IP)) > 0
    True
    """
    return [
        place
        for place, feature in enumerate(CATALOGUE)
        if feature.entity is entity and not feature.is_of_card
    ]
