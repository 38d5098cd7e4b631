"""Fresh rows of one entity shard: what they need to be read, and what they make of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fraudstream.features.entity_kernel import advance_shared
from fraudstream.features.state import SHARED_STATE
from fraudstream.features.stored_values import ENTITY_OF_KIND, LABEL, unpack_values
from fraudstream.store.entity_rows import is_label, label_name, pack_entity_rows
from fraudstream.store.shard import ShardKeys
from fraudstream.store.shard_store import STATE_LIFE_S, StoredValue
from fraudstream.v1.features_pb2 import EntityRow


@dataclass(frozen=True, slots=True)
class EntityBatch:
    """Fresh rows of one shard, and the keys of the entities that they touch.

    Attributes:
        rows: In order.
        offsets: Offset of each row in the entities topic.
        entities: Kind and key of each entity.
    """

    rows: Sequence[EntityRow]
    offsets: Sequence[int]
    entities: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, rows: Sequence[tuple[int, EntityRow]]) -> EntityBatch:
        """Return a batch of rows with their offsets."""
        return cls(
            [row for _, row in rows],
            [offset for offset, _ in rows],
            list(dict.fromkeys(_entity_of(row) for _, row in rows)),
        )

    def keys(self, names: ShardKeys) -> list[str]:
        """Return what must be read: states, then the known labels of labelled transactions."""
        return [
            *(names.state(kind, key) for kind, key in self.entities),
            *(names.state(LABEL, label_name(row)) for row in self.rows if is_label(row)),
        ]

    def advance(self, names: ShardKeys, values: Sequence[bytes | None]) -> list[StoredValue]:
        """Return the moved states and the known labels."""
        count = len(self.entities)
        index_of = {entity: index for index, entity in enumerate(self.entities)}
        states = unpack_values(values[:count], SHARED_STATE)
        labelled = [label_name(row) for row in self.rows if is_label(row)]
        known = dict(zip(labelled, values[count:], strict=True))
        packed = pack_entity_rows(self.rows, self.offsets, known)
        state_of = np.array([index_of[_entity_of(row)] for row in self.rows], np.int64)
        advance_shared(states, state_of, packed)
        return [
            *(
                StoredValue(names.state(kind, key), states[index].tobytes(), STATE_LIFE_S)
                for index, (kind, key) in enumerate(self.entities)
            ),
            *(
                StoredValue(names.state(LABEL, name), label, STATE_LIFE_S)
                for name, label in known.items()
                if label is not None
            ),
        ]


def _entity_of(row: EntityRow) -> tuple[str, str]:
    return ENTITY_OF_KIND[row.entity_kind].value, row.entity_key
