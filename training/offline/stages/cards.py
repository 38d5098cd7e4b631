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
from numpy.typing import NDArray

from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.catalogue import (
    CATALOGUE,
    SHARED_ENTITIES,
    Entity,
)
from fraudstream.features.state import CARD_STATE
from fraudstream.v1.transaction_pb2 import TransactionKind
from training.offline.layout import (
    BLOCK_ROWS,
    DECIDED,
    EVENT,
    GENUINE,
    LABEL,
    NONE,
    OUTCOME,
    PACKED_ROW,
    RANGE_ROWS,
    UNSAID,
)
from training.offline.plan import Content, Plan
from training.offline.stages.row_classes import (
    CONFIRMED,
    LABELLED_GENUINE,
    UNDETERMINED,
    Groups,
    Judged,
    OrderedLabels,
    complete_labels,
    group_transactions,
    judge_rows,
    order_labels,
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
    rows = read_shard(inputs.rows, shard, PACKED_ROW)
    labels = read_shard(inputs.labels, shard, LABEL)
    decided = read_shard(inputs.decisions, shard, DECIDED)
    groups = group_transactions(rows, labels, decided)
    judged = judge_rows(rows, groups, decided)
    own, own_groups = own_labels(rows, groups, judged.counted)
    ordered = order_labels(
        np.concatenate([labels, own]), np.concatenate([groups.of_labels, own_groups])
    )
    event_ms, request = rows["row"]["event_ms"], plan.request
    wanted = judged.counted & (event_ms >= request.from_ms) & (event_ms < request.until_ms)
    outcomes = _write_outcomes(plan, folder, (rows, wanted), groups, ordered)
    labelled = _label_counts(outcomes, rows, wanted)
    completed, strays = complete_labels(ordered, rows, judged)
    if not judged.counted.all():
        rows, wanted = rows[judged.counted], wanted[judged.counted]
    chunk = _Shard(rows, wanted, _advance(folder, rows, wanted, request.steps))
    for kind, entity in enumerate(SHARED_ENTITIES):
        events = np.concatenate(
            [_label_events(completed, ordered, kind), _row_events(chunk, entity, kind)]
        )
        target = shard_of(events["entity"], plan.shards)
        write_sharded(folder / f"events-{entity.value}", events, target, plan.shards)
    return _counts(judged, ordered, strays) | {
        "wanted": len(outcomes),
        "frauds": int(outcomes["is_fraud"].sum()),
        **labelled,
        "ranges": _ranges(outcomes["number"]),
    }


def _counts(judged: Judged, ordered: OrderedLabels, strays: int) -> Summary:
    return {
        "rows": int(judged.counted.sum()),
        "duplicates": judged.duplicates,
        "conflicts": judged.conflicts,
        "labels": len(ordered.labels),
        "labels_without_transaction": strays,
    }


def _label_counts(outcomes: Records, rows: Records, wanted: Mask) -> Summary:
    """Return how many wanted rows are labelled how; what makes them labelled is the set's."""
    found = outcomes["disposition"]
    is_timed = outcomes["label_arrival_ms"] >= 0
    return {
        "genuine": int(((found == LABELLED_GENUINE) & is_timed).sum()),
        "genuine_without_time": int(((found == LABELLED_GENUINE) & ~is_timed).sum()),
        "undetermined": int((found == UNDETERMINED).sum()),
        "unlabelled": int((found == 0).sum()),
        "without_is_fraud": int((rows["is_fraud"][wanted] == UNSAID).sum()),
    }


def _ranges(numbers: NDArray[np.int64]) -> dict[str, int]:
    """Return how many wanted rows each range of row numbers has."""
    ranges, counts = np.unique(numbers // RANGE_ROWS, return_counts=True)
    return dict(zip(map(str, ranges.tolist()), counts.tolist(), strict=True))


def _write_outcomes(
    plan: Plan, folder: Path, chosen: tuple[Records, Mask], groups: Groups, ordered: OrderedLabels
) -> Records:
    rows, wanted = chosen
    final, arrival = ordered.final(groups, plan.request.labels_until_ms)
    kept = np.flatnonzero(wanted)
    group = groups.of_rows[kept]
    # A row may say that it is genuine without the time at which that became known.
    is_said = (rows["is_fraud"] == GENUINE) & (rows["label_arrival_ms"] == NONE)
    disposition = np.where((final[group] == 0) & is_said[kept], LABELLED_GENUINE, final[group])
    outcomes = np.zeros(len(kept), OUTCOME)
    for name in ("number", "arrival_ms"):
        outcomes[name] = rows[name][kept]
    for name in ("event_ms", "amount"):
        outcomes[name] = rows["row"][name][kept]
    outcomes["is_fraud"] = disposition == CONFIRMED
    outcomes["disposition"], outcomes["label_arrival_ms"] = disposition, arrival[group]
    np.save(folder / "outcomes.npy", outcomes)
    return outcomes


def _advance(folder: Path, rows: Records, wanted: Mask, steps: int) -> NDArray[np.int8]:
    """Write vectors and sequences of the wanted rows; return which rows are unusual, int8 [N]."""
    outputs = empty_outputs(int(wanted.sum()), steps)
    indices = np.where(wanted, np.cumsum(wanted) - 1, -1)
    unusual = np.zeros(len(rows), np.int8)
    cards = np.ascontiguousarray(rows["card"])
    by_card = np.argsort(cards, kind="stable")
    for begin, end in blocks_of(cards[by_card]):
        index = by_card[begin:end]
        state_of = numbers_of(cards[index])
        states = np.zeros(int(state_of[-1]) + 1, CARD_STATE)
        packed = rows["row"][index]
        unusual[index] = advance_cards(states, state_of, packed, outputs, indices[index])
    vectors, sequences = outputs
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "sequences.npy", sequences)
    return unusual


def numbers_of(names: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return a number from 0 on for each name, int64 [N]; equal names stand together.

    >>> numbers_of(np.array([7, 7, 9], np.uint64)).tolist()
    [0, 0, 1]
    """
    return np.cumsum(np.diff(names, prepend=names[:1]) != 0)


def blocks_of(names: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Yield blocks of about `BLOCK_ROWS` rows that cut no name in two; `names` is in order."""
    begin = 0
    while begin < len(names):
        last = names[min(begin + BLOCK_ROWS, len(names)) - 1]
        end = int(np.searchsorted(names, last, side="right"))
        yield begin, end
        begin = end


def _row_events(chunk: _Shard, entity: Entity, kind: int) -> Records:
    """Return what transactions mean to one kind of entity; at the card itself only labels count."""
    is_purchase = (chunk.rows["row"]["kind"] == _PURCHASE) & (entity is not Entity.CARD)
    of_entity = chunk.rows["entities"][:, kind]
    kept = np.flatnonzero((of_entity != 0) & (is_purchase | chunk.wanted))
    events = np.zeros(len(kept), EVENT)
    events["entity"], events["order"] = of_entity[kept], chunk.rows["number"][kept]
    events["arrival_ms"] = chunk.rows["arrival_ms"][kept]
    for name in ("event_ms", "amount"):
        events[name] = chunk.rows["row"][name][kept]
    events["is_transaction"] = 1
    events["kind"] = np.where(is_purchase[kept], _PURCHASE, 0)
    events["is_unusual"], events["is_reader"] = chunk.unusual[kept], chunk.wanted[kept]
    return events


def _label_events(labels: Records, ordered: OrderedLabels, kind: int) -> Records:
    kept = (labels["entities"][:, kind] != 0) & (labels["event_ms"] >= 0)
    events = np.zeros(int(kept.sum()), EVENT)
    events["entity"] = labels["entities"][kept, kind]
    events["order"] = labels["place"][kept]
    events["arrival_ms"], events["event_ms"] = labels["arrival_ms"][kept], labels["event_ms"][kept]
    events["change"] = ordered.change[kept]
    return events


def vector_indices(entity: Entity) -> Sequence[int]:
    """Return the indices in the vector that a kind of shared entity fills.

    >>> len(vector_indices(Entity.IP)) > 0
    True
    """
    return [
        index
        for index, feature in enumerate(CATALOGUE)
        if feature.entity is entity and not feature.is_of_card
    ]
