"""Fill an empty store from an offline replay, then open its shards for the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fraudstream.broker.topic_info import Log
from fraudstream.errors import ShardClosed
from fraudstream.features.catalogue import Entity
from fraudstream.features.history import Replayed
from fraudstream.features.stored_values import CARD, CARD_VALUE, log_key
from fraudstream.parity.initial import InitialState, write_initial
from fraudstream.store.shard import Role, ShardRef
from fraudstream.store.shard_store import STATE_LIFE_S, StateStore, StoredValue
from fraudstream.topics import partition_of

_CHUNK: Final = 2000


@dataclass(frozen=True, slots=True)
class LoadedHistory:
    """What a replay left, with the names that the stream knows its entities by.

    Attributes:
        replayed: Final states.
        card_tokens: Token of each card number.
        entity_keys: Key of each number of each shared entity (`stored_values.entity_key`).
    """

    replayed: Replayed
    card_tokens: Sequence[str]
    entity_keys: Mapping[Entity, Sequence[str]]

    def keep(self, path: Path) -> None:
        """Write the states to a file: no log holds them, and decisions are proven from them."""
        write_initial(path, self._states())

    def _states(self) -> Iterator[InitialState]:
        for index, token in enumerate(self.card_tokens):
            yield Role.CARD, CARD, token, self.replayed.cards[index].tobytes()
        for entity, states in self.replayed.shared.items():
            for index, key in enumerate(self.entity_keys[entity]):
                yield Role.ENTITY, entity.value, key, states[index].tobytes()


async def load_states(
    store: StateStore,
    accepted: Log,
    entities: Log,
    history: LoadedHistory,
    progress: Callable[[int], None],
) -> None:
    """Write all states of a replayed history and open every shard at offset 0.

    Args:
        store: A connected store without these shards.
        accepted: The accepted topic, still empty.
        entities: The entities topic, still empty.
        history: What to write.
        progress: Called with the number of states written so far.

    Raises:
        ShardClosed: A shard is open already, and its states would be overwritten; or the store lost
            its last writes meanwhile.
        OnlineStoreUnavailable: The store does not answer in time.
    """
    shards = [ShardRef(Role.CARD, p, accepted.incarnation) for p in range(accepted.partitions)]
    shards += [ShardRef(Role.ENTITY, p, entities.incarnation) for p in range(entities.partitions)]
    witnesses = [await _begin(store, shard) for shard in shards]
    values = _values(store, accepted, entities, history)
    written = 0
    while chunk := list(islice(values, _CHUNK)):
        await store.fill(chunk)
        written += len(chunk)
        progress(written)
    for shard, witness in zip(shards, witnesses, strict=True):
        await store.open_shard(shard, 0, witness)


async def _begin(store: StateStore, shard: ShardRef) -> str:
    """Begin to open a shard that must have no marker yet."""
    if await store.marker(shard) is not None:
        msg = f"shard {shard.role}{shard.partition} is open already: expected an empty store"
        raise ShardClosed(msg)
    return await store.begin_opening(shard)


def _values(
    store: StateStore, accepted: Log, entities: Log, history: LoadedHistory
) -> Iterator[StoredValue]:
    cards = _card_values(history.replayed.cards)
    for index, token in enumerate(history.card_tokens):
        partition = partition_of(token.encode(), accepted.partitions)
        names = store.keys(ShardRef(Role.CARD, partition, accepted.incarnation))
        yield StoredValue(names.state(CARD, token), cards[index].tobytes(), STATE_LIFE_S)
    for entity, states in history.replayed.shared.items():
        for index, key in enumerate(history.entity_keys[entity]):
            partition = partition_of(log_key(entity, key), entities.partitions)
            names = store.keys(ShardRef(Role.ENTITY, partition, entities.incarnation))
            content = states[index].tobytes()
            yield StoredValue(names.state(entity.value, key), content, STATE_LIFE_S)


def _card_values(states: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return card values without a decided vector: nothing was decided yet."""
    values = np.zeros(len(states), CARD_VALUE)
    values["state"] = states
    values["decided_ms"] = states["previous_ms"]
    values["vector"] = np.nan
    return values
