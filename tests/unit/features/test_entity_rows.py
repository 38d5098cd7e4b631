"""High marks of an entity shard: a replay counts nothing twice, and leaves nothing out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from fraudstream.broker.log_reader import LogRecord
from fraudstream.store.entity_reader import HighMark, source_field, watermark_of
from fraudstream.store.entity_rows import (
    decode_entity_row,
    fresh_rows,
    label_name,
    pack_entity_rows,
)
from fraudstream.topics import incarnation_of
from fraudstream.v1.features_pb2 import EntityKind, EntityRow, EntityRowKind
from fraudstream.v1.transaction_pb2 import TransactionKind

_TRANSACTION = EntityRowKind.ENTITY_ROW_KIND_TRANSACTION
_LABEL = EntityRowKind.ENTITY_ROW_KIND_LABEL
_BEAT = EntityRowKind.ENTITY_ROW_KIND_HEARTBEAT
_TERMINAL, _MERCHANT = EntityKind.ENTITY_KIND_TERMINAL, EntityKind.ENTITY_KIND_MERCHANT
_ACCEPTED, _LABELS = b"a" * 16, b"l" * 16


def _entity_row(
    offset: int,
    kind: EntityRowKind = _TRANSACTION,
    entity_kind: EntityKind = _TERMINAL,
    source: tuple[bytes, int] = (_ACCEPTED, 0),
    time_ms: int = 0,
) -> EntityRow:
    topic_id, partition = source
    return EntityRow(
        kind=kind,
        entity_kind=entity_kind,
        entity_key="bank/t-1",
        source_topic_id=topic_id,
        source_partition=partition,
        source_offset=offset,
        source_time_ms=time_ms,
        identity=b"i" * 16,
    )


def _stored(marks: Mapping[str, HighMark]) -> dict[bytes, bytes]:
    return {name.encode(): mark.packed().encode() for name, mark in marks.items()}


def _fresh(
    rows: Sequence[EntityRow], known: Mapping[str, HighMark]
) -> tuple[list[EntityRow], dict[str, HighMark]]:
    fresh, marks = fresh_rows(list(enumerate(rows)), known)
    return [row for _, row in fresh], marks


def _offsets(rows: list[EntityRow]) -> list[int]:
    return [row.source_offset for row in rows]


def test_replayed_rows_are_skipped_and_new_ones_are_not() -> None:
    """A batch sent again after a crash counts only what was not counted before."""
    _, marks = _fresh([_entity_row(3), _entity_row(5)], {})

    again, _ = _fresh([_entity_row(offset) for offset in (3, 5, 6)], marks)

    assert _offsets(again) == [6]


def test_rows_repeated_within_one_batch_count_once() -> None:
    """The marks move with every row, not at the end of the batch."""
    fresh, _ = _fresh([_entity_row(offset) for offset in (3, 4, 3, 4, 5)], {})

    assert _offsets(fresh) == [3, 4, 5]


def test_two_entity_kinds_of_one_offset_both_count() -> None:
    """Terminal and merchant of one transaction may lie in one shard: kind is part of the mark."""
    rows = [_entity_row(3, entity_kind=_TERMINAL), _entity_row(3, entity_kind=_MERCHANT)]

    fresh, marks = _fresh(rows, {})
    again, _ = _fresh(rows, marks)

    assert len(fresh) == 2
    assert again == []


def test_a_crash_between_two_kinds_of_one_offset_loses_neither() -> None:
    """After the terminal's row alone, the replay still counts the merchant's."""
    terminal, merchant = _entity_row(3), _entity_row(3, entity_kind=_MERCHANT)
    _, marks = _fresh([terminal], {})

    fresh, _ = _fresh([terminal, merchant], marks)

    assert [row.entity_kind for row in fresh] == [_MERCHANT]


@pytest.mark.parametrize("other", [(_LABELS, 0), (_ACCEPTED, 1)])
def test_sources_are_told_apart_by_topic_and_partition(other: tuple[bytes, int]) -> None:
    """Labels share offsets with transactions, and partitions with each other."""
    fresh, _ = _fresh([_entity_row(9), _entity_row(2, source=other)], {})

    assert _offsets(fresh) == [9, 2]


def test_heartbeat_moves_the_mark_past_its_offset_and_counts_nothing() -> None:
    """A beat says that all rows of its offset and before have come."""
    fresh, marks = _fresh([_entity_row(8, _BEAT, time_ms=50)], {})
    again, _ = _fresh([_entity_row(8, entity_kind=_MERCHANT)], marks)

    assert fresh == []
    assert again == []


def test_time_of_a_source_never_falls() -> None:
    """A row whose record is older than the last does not take the watermark back."""
    _, marks = _fresh([_entity_row(1, time_ms=90), _entity_row(2, time_ms=40)], {})

    assert marks[source_field(_ACCEPTED, 0)] == HighMark(2, _TERMINAL, 90)


def test_watermark_is_the_slowest_source_and_zero_while_one_is_unheard_of() -> None:
    """Closed means closed for every partition of the log."""
    incarnation = incarnation_of(_ACCEPTED, 2)
    first = {source_field(_ACCEPTED, 0): HighMark(1, 1, 70)}
    both = first | {source_field(_ACCEPTED, 1): HighMark(1, 1, 60)}

    assert watermark_of(_stored(first), incarnation) == 0
    assert watermark_of(_stored(both), incarnation) == 60


def _label(is_fraud: bool) -> EntityRow:
    row = _entity_row(1, _LABEL)
    row.is_fraud = is_fraud
    return row


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([True], [1]),
        ([True, True], [1, 0]),
        ([False], [0]),
        ([True, False], [1, -1]),
        ([True, False, False, True], [1, -1, 0, 1]),
    ],
)
def test_label_counts_once_and_a_changed_label_moves_the_count(
    labels: list[bool], expected: list[int]
) -> None:
    """A chargeback after a disposition adds nothing; a flip takes the fraud back."""
    rows = [_label(is_fraud) for is_fraud in labels]
    known: dict[str, bytes | None] = {label_name(rows[0]): None}

    packed = pack_entity_rows(rows, range(len(rows)), known)

    assert packed["change"].tolist() == expected
    assert packed["kind"].tolist() == [0] * len(rows)


def test_label_is_remembered_between_batches() -> None:
    """A label that comes again days later changes nothing."""
    known: dict[str, bytes | None] = {label_name(_label(True)): None}
    pack_entity_rows([_label(True)], [0], known)

    assert pack_entity_rows([_label(True)], [1], known)["change"].tolist() == [0]


def test_labels_of_two_entities_of_one_transaction_are_apart() -> None:
    """Terminal and merchant may share a shard; each has its own count to move."""
    rows = [_label(True), _label(True)]
    rows[1].entity_kind = _MERCHANT

    packed = pack_entity_rows(rows, [0, 1], {label_name(row): None for row in rows})

    assert packed["change"].tolist() == [1, 1]


def test_packed_row_tells_how_far_the_log_was_read() -> None:
    """A state knows the offset after its last row, and a transaction whether it was unusual."""
    row = _entity_row(3)
    row.event_time_ms, row.amount_reference_minor = 70, 250
    row.transaction_kind, row.is_unusual = TransactionKind.TRANSACTION_KIND_PURCHASE, True

    packed = pack_entity_rows([row], [41], {})

    assert packed[0].tolist() == (70, 250, 42, 1, 1, 0)


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xff\xff",
        b"",
        EntityRow(kind=_LABEL).SerializeToString(),
        # A kind of transaction, 999, that no state has room for.
        EntityRow(kind=_LABEL, entity_kind=_TERMINAL).SerializeToString() + b"\x50\xe7\x07",
    ],
)
def test_other_bytes_on_the_entities_topic_are_skipped(value: bytes) -> None:
    """Only features writes there; what is no entity's row moves nothing."""
    assert decode_entity_row(LogRecord("t", 0, 5, 0, b"", value, ())) is None
