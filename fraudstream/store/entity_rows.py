"""What the rows of `entities.keyed.v1` mean: which are new, and how each moves its entity's state.

Keyed by entity, in the order of each source. A row that is not above its source's mark was counted
before; a label counts by what it says: the first, or one that differs from the last known.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fraudstream.broker.messages import StampedRecord, message_of
from fraudstream.broker.quarantine import report
from fraudstream.features.state import SHARED_ROW
from fraudstream.features.stored_values import ENTITY_OF_KIND, log_key
from fraudstream.reject_reasons import QuarantineReason
from fraudstream.store.entity_reader import HighMark, source_field
from fraudstream.v1.features_pb2 import EntityRow, EntityRowKind

_FRAUD: Final = b"fraud"
_GENUINE: Final = b"genuine"
# Above every entity kind: a heartbeat says that all rows of its offset have come.
_WHOLE_OFFSET: Final = 255


class KeyedRecord(StampedRecord, Protocol):
    """A record with its key."""

    @property
    def key(self) -> bytes | None:
        """What it is keyed by."""
        ...


R = TypeVar("R", bound=KeyedRecord)


def decode_entity_row(record: KeyedRecord) -> EntityRow | None:
    """Return the row of a record; None for what features cannot have written."""
    row = message_of(EntityRow, record)
    if row is None or row.kind == EntityRowKind.ENTITY_ROW_KIND_HEARTBEAT:
        return row
    if record.key != log_key(ENTITY_OF_KIND[row.entity_kind], row.entity_key):
        report(record, QuarantineReason.KEY, "expected the row's entity as key")
        return None
    return row


def decode_entity_rows(records: Sequence[R]) -> list[tuple[R, EntityRow]]:
    """Return the records that hold rows of ours, each with its row."""
    decoded = ((record, decode_entity_row(record)) for record in records)
    return [(record, row) for record, row in decoded if row is not None]


def fresh_rows(
    rows: Sequence[tuple[int, EntityRow]], known: Mapping[str, HighMark]
) -> tuple[list[tuple[int, EntityRow]], dict[str, HighMark]]:
    """Return the rows above their source's mark, in order, and the marks after them.

    Args:
        rows: Rows of one entity shard with their offsets, heartbeats included.
        known: The shard's marks so far, by source.
    """
    marks = dict(known)
    fresh = []
    for at, row in rows:
        field = source_field(row.source_topic_id, row.source_partition)
        mark = marks.get(field, HighMark(-1, 0, 0))
        is_beat = row.kind == EntityRowKind.ENTITY_ROW_KIND_HEARTBEAT
        kind = _WHOLE_OFFSET if is_beat else row.entity_kind
        is_above = (row.source_offset, kind) > (mark.offset, mark.kind)
        offset, kind = max((row.source_offset, kind), (mark.offset, mark.kind))
        marks[field] = HighMark(offset, kind, max(mark.time_ms, row.source_time_ms))
        if is_above and not is_beat:
            fresh.append((at, row))
    return fresh, marks


def pack_entity_rows(
    rows: Sequence[EntityRow],
    offsets: Sequence[int],
    known: MutableMapping[str, bytes | None],
) -> npt.NDArray[np.void]:
    """Return rows as the kernel takes them, `SHARED_ROW` [B].

    Args:
        rows: Fresh rows, in order.
        offsets: Offset of each in the entities topic.
        known: Last known label by `label_name`, None for none; moved on by the labels.
    """
    packed = np.zeros(len(rows), SHARED_ROW)
    for index, row in enumerate(rows):
        packed[index] = (
            row.event_time_ms,
            row.amount_reference_minor,
            offsets[index] + 1,
            row.transaction_kind,
            row.is_unusual,
            _fraud_change(known, row) if is_label(row) else 0,
        )
    return packed


def _fraud_change(known: MutableMapping[str, bytes | None], row: EntityRow) -> int:
    """Return how a label moves the count of frauds, and keep what it says.

    A label that comes again changes nothing; one that flips takes the first back.
    """
    name = label_name(row)
    before = known.get(name)
    known[name] = _FRAUD if row.is_fraud else _GENUINE
    return int(row.is_fraud) - int(before == _FRAUD)


def is_label(row: EntityRow) -> bool:
    """Return whether a row is a label.

    >>> is_label(EntityRow(kind=EntityRowKind.ENTITY_ROW_KIND_LABEL))
    True
    """
    return row.kind == EntityRowKind.ENTITY_ROW_KIND_LABEL


def label_name(row: EntityRow) -> str:
    """Return the name of a label: two entities of one transaction may share a shard.

    >>> label_name(EntityRow(entity_kind=1, identity=b"i"))
    '1:69'
    """
    return f"{row.entity_kind}:{row.identity.hex()}"
