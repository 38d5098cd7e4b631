"""Fourth stage: one shard of one kind of shared entity: rows and labels in order of arrival.

A label is known to a row that arrived with it or later; a row reads its entity before it counts
there itself. Entities are walked one after the other, a block of them at a time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fraudstream.features.card_kernel import empty_outputs
from fraudstream.features.catalogue import Entity
from fraudstream.features.entity_kernel import Readers, replay_shared
from fraudstream.features.state import SHARED_ROW, SHARED_STATE
from training.offline.layout import EVENT
from training.offline.plan import Plan
from training.offline.stages.cards import blocks_of, numbers_of, vector_indices
from training.offline.work import Records, Summary, fresh_folder, read_shard


def walk_entities(plan: Plan, events: tuple[Path, ...], kind: tuple[Entity, int]) -> Summary:
    """Walk one shard of a kind; leave row numbers, in order, and their features.

    Args:
        plan: The plan.
        events: Sharded files of this kind's events.
        kind: Which kind of entity, and the shard.
    """
    entity, shard = kind
    folder = fresh_folder(plan.work / "entities" / f"{entity.value}-{shard:05}")
    found = read_shard(events, shard, EVENT)
    # At one moment labels come first; columns on their own are sorted quicker.
    moment = 2 * found["arrival_ms"] + found["is_transaction"]
    found = found[np.lexsort((found["order"].copy(), moment, found["entity"].copy()))]
    readers = found["is_reader"] == 1
    indices = vector_indices(entity)
    features = np.empty((int(readers.sum()), len(indices)), np.float32)
    names = np.ascontiguousarray(found["entity"])
    blocks = list(blocks_of(names))
    vectors, _ = empty_outputs(max((end - begin for begin, end in blocks), default=0), 1)
    done = 0
    for begin, end in blocks:
        block = vectors[: int(readers[begin:end].sum())]
        _replay(entity, found[begin:end], numbers_of(names[begin:end]), block)
        features[done : done + len(block)] = block[:, indices]
        done += len(block)
    numbers = found["order"][readers]
    order = np.argsort(numbers)
    np.save(folder / "numbers.npy", numbers[order])
    np.save(folder / "features.npy", features[order])
    return {"events": len(found), "readers": len(numbers)}


def _replay(
    entity: Entity, events: Records, state_of: NDArray[np.int64], vectors: NDArray[np.float32]
) -> None:
    """Write the vectors of a block's readers, in the events' order."""
    is_logged = (events["is_transaction"] == 0) | (events["kind"] != 0)
    before = np.cumsum(is_logged) - is_logged
    reads = np.flatnonzero(events["is_reader"])
    log = np.zeros(int(is_logged.sum()), SHARED_ROW)
    for name in ("event_ms", "amount", "kind", "is_unusual", "change"):
        log[name] = events[name][is_logged]
    replay_shared(
        entity,
        np.zeros(int(state_of[-1]) + 1, SHARED_STATE),
        (state_of[is_logged], log),
        Readers(
            before[reads],
            state_of[reads],
            events["event_ms"][reads],
            events["amount"][reads],
            np.arange(len(reads)),
        ),
        vectors,
    )
