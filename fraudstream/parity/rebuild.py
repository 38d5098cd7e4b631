"""The offline driver: what each decision saw, computed again from the logs.

Cards: the rows of a partition in order; one by gRPC walks on from a copy of its card's state.
Shared entities: the rows of an entities partition up to the offset that the decision recorded.
Axes: D proven decisions of a partition, F features, T steps, C channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.broker.log_reader import LogRecord
from fraudstream.features.card_kernel import advance_cards, empty_outputs
from fraudstream.features.catalogue import SHARED_ENTITIES, Entity
from fraudstream.features.entity_kernel import Readers, replay_shared
from fraudstream.features.state import CARD_STATE, SHARED_STATE, rows_of
from fraudstream.features.stored_values import (
    CARD,
    ENTITY_OF_KIND,
    KIND_OF_ENTITY,
    entity_keys,
    log_key,
    unpack_values,
)
from fraudstream.parity.initial import InitialStates
from fraudstream.parity.recorded import DoorRead, PartitionLog
from fraudstream.store.entity_reader import HighMark
from fraudstream.store.entity_rows import decode_entity_row, fresh_rows, pack_entity_rows
from fraudstream.store.shard import Role
from fraudstream.topics import partition_of
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.features_pb2 import EntityKind, EntityRow

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

WIDENED: Final = "entities.keyed.v1 was widened, and rows that it read lie in two partitions"


@dataclass(frozen=True, slots=True)
class CardRows:
    """Rows of a partition as the driver walks them.

    Attributes:
        rows: `ROW` [n], in order.
        state_of: int64 [n], the card of each.
        offsets: int64 [n], where each lies in the log.
        indices: int64 [n], which decision each is, -1 for none.
    """

    rows: npt.NDArray[np.void]
    state_of: Ints
    offsets: Ints
    indices: Ints


def rebuild_cards(
    log: PartitionLog, change: Callable[[CardRows], CardRows], initial: InitialStates
) -> tuple[Floats, Floats]:
    """Compute what every proven decision of a partition saw of its card.

    Args:
        log: The partition.
        change: What is done to the rows first; only a planted bug does anything.
        initial: States that were loaded beside the log.

    Returns:
        Vectors float32 [D, F], shared entities still missing, and sequences float32 [D, T, C].
    """
    numbers: dict[str, int] = {}
    state_of = [
        numbers.setdefault(row.card_token, len(numbers)) for row in log.counted.transactions
    ]
    door_cards = [
        numbers.setdefault(log.decisions[read.index].card_token, len(numbers))
        for read in log.door_reads
    ]
    walked = change(
        CardRows(
            log.counted.packed(),
            np.array(state_of, np.int64),
            np.array(log.counted.offsets, np.int64),
            np.array(log.counted.indices, np.int64),
        )
    )
    loaded = initial.of(Role.CARD, CARD)
    states = unpack_values([loaded.get(token) for token in numbers], CARD_STATE)
    outputs = empty_outputs(len(log.decisions))
    done = 0
    for read, card in zip(log.door_reads, door_cards, strict=True):
        until = int(np.searchsorted(walked.offsets, read.applied_offset))
        _advance(states, walked, (done, until), outputs)
        done = max(done, until)
        _preview(states[card], read, log.decisions[read.index], outputs)
    _advance(states, walked, (done, len(walked.rows)), outputs)
    return outputs


def _advance(
    states: npt.NDArray[np.void],
    walked: CardRows,
    part: tuple[int, int],
    outputs: tuple[Floats, Floats],
) -> None:
    if part[0] < part[1]:
        own = slice(*part)
        advance_cards(states, walked.state_of[own], walked.rows[own], outputs, walked.indices[own])


def _preview(
    state: np.void, read: DoorRead, decision: Decision, outputs: tuple[Floats, Floats]
) -> None:
    rows = np.concatenate([read.pending, rows_of([decision.transaction])])
    indices = np.full(len(rows), -1, np.int64)
    indices[-1] = read.index
    copy = np.array([state], CARD_STATE)
    advance_cards(copy, np.zeros(len(rows), np.int64), rows, outputs, indices)


@dataclass(frozen=True, slots=True)
class SharedReads:
    """Reads of one kind of shared entity in one entities partition, one list a column.

    Attributes:
        keys: Key of each entity that was read.
        applied: Rows of the entities partition below it were in the state; 0 for no state.
        indices: Which vector each fills.
        events_ms: Event time of each reader.
        amounts: Amount of each reader, reference minor units.
    """

    keys: list[str] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    events_ms: list[int] = field(default_factory=list)
    amounts: list[int] = field(default_factory=list)


ReadsByPartition = dict[int, dict[Entity, SharedReads]]


def collect_reads(
    decisions: Sequence[Decision], first_index: int, partitions: int, reads: ReadsByPartition
) -> None:
    """Add the shared entities that decisions read to `reads`, by entities partition and kind.

    Args:
        decisions: Decisions, the first of which fills the vector `first_index`.
        first_index: See above.
        partitions: Partitions of the entities topic.
        reads: Changed in place.
    """
    for index, decision in enumerate(decisions, first_index):
        applied = {
            read.entity_kind: read.applied_offset for read in decision.freshness.shared_reads
        }
        keys = entity_keys(decision.transaction)
        for entity, key in zip(SHARED_ENTITIES, keys, strict=True):
            if not key:
                continue
            partition = partition_of(log_key(entity, key), partitions)
            found = reads.setdefault(partition, {}).setdefault(entity, SharedReads())
            found.keys.append(key)
            found.applied.append(applied.get(KIND_OF_ENTITY[entity], 0))
            found.indices.append(index)
            found.events_ms.append(decision.event_time_ms)
            found.amounts.append(decision.transaction.amount_reference_minor)


@dataclass(frozen=True, slots=True)
class EntityLog:
    """Rows of one kind of shared entity in one entities partition.

    Attributes:
        keys: Number of each entity's key.
        state_of: int64 [n], the entity of each row.
        rows: `SHARED_ROW` [n], in order.
        offsets: int64 [n], where each lies.
        loaded: States before the first row, by key.
    """

    keys: dict[str, int]
    state_of: Ints
    rows: npt.NDArray[np.void]
    offsets: Ints
    loaded: Mapping[str, bytes]


class EntityPartition:
    """The fresh rows of an entities partition, as its shard counted them.

    Args:
        records: Of the partition, in order.
        initial: States that were loaded beside the log.
    """

    def __init__(self, records: Iterable[LogRecord], initial: InitialStates) -> None:
        self._initial = initial
        decoded = ((record.offset, decode_entity_row(record)) for record in records)
        marks: dict[str, HighMark] = {}
        self.fresh, _ = fresh_rows([(at, row) for at, row in decoded if row], marks)

    def by_kind(self) -> dict[Entity, EntityLog]:
        """Return the log of each kind of entity; an empty one where it has no rows."""
        chunks: dict[EntityKind, list[tuple[int, EntityRow]]] = defaultdict(list)
        for at, row in self.fresh:
            chunks[row.entity_kind].append((at, row))
        return {
            entity: _log_of(chunks[kind], self._initial.of(Role.ENTITY, entity.value))
            for kind, entity in ENTITY_OF_KIND.items()
        }

    def moved(self, partition: int, partitions: int) -> set[bytes]:
        """Return keys with rows here whose partition is another one now: the topic was widened."""
        keys = {log_key(ENTITY_OF_KIND[row.entity_kind], row.entity_key) for _, row in self.fresh}
        return {key for key in keys if partition_of(key, partitions) != partition}


def log_keys_of(decision: Decision) -> set[bytes]:
    """Return the keys, in the entities topic, of what a decision read."""
    keys = zip(SHARED_ENTITIES, entity_keys(decision.transaction), strict=True)
    return {log_key(entity, key) for entity, key in keys if key}


def rebuild_entities(
    log: EntityPartition,
    reads: Mapping[Entity, SharedReads],
    change: Callable[[EntityLog, Ints], Ints],
    vectors: Floats,
) -> None:
    """Write what decisions saw of the shared entities of one entities partition.

    Args:
        log: The partition.
        reads: What was read there.
        change: As for `rebuild_shared`.
        vectors: float32 [D, F], written.
    """
    logs = log.by_kind()
    for entity, found in reads.items():
        rebuild_shared(entity, logs[entity], found, change, vectors)


def _log_of(chunk: list[tuple[int, EntityRow]], loaded: Mapping[str, bytes]) -> EntityLog:
    keys: dict[str, int] = {}
    state_of = [keys.setdefault(row.entity_key, len(keys)) for _, row in chunk]
    offsets = [at for at, _ in chunk]
    rows = pack_entity_rows([row for _, row in chunk], offsets, {})
    return EntityLog(keys, np.array(state_of, np.int64), rows, np.array(offsets, np.int64), loaded)


def rebuild_shared(
    entity: Entity,
    log: EntityLog,
    reads: SharedReads,
    change: Callable[[EntityLog, Ints], Ints],
    vectors: Floats,
) -> None:
    """Write what decisions saw of one kind of shared entity into their vectors.

    Args:
        entity: Which kind.
        log: Its rows in one entities partition.
        reads: What was read there.
        change: What is done to the positions of the readers first; only a planted bug does any.
        vectors: float32 [D, F], written.
    """
    keys = dict(log.keys)
    state_of = np.array([keys.setdefault(key, len(keys)) for key in reads.keys], np.int64)
    applied = np.array(reads.applied, np.int64)
    after = change(log, np.searchsorted(log.offsets, applied).astype(np.int64))
    order = np.argsort(after, kind="stable")
    readers = Readers(
        after[order],
        state_of[order],
        np.array(reads.events_ms, np.int64)[order],
        np.array(reads.amounts, np.int64)[order],
        np.array(reads.indices, np.int64)[order],
    )
    states = unpack_values([log.loaded.get(key) for key in keys], SHARED_STATE)
    replay_shared(entity, states, (log.state_of, log.rows), readers, vectors)
