"""High marks of an entity shard: a replay counts nothing twice, and leaves nothing out."""

from __future__ import annotations

import pytest

from fraudstream.shard import incarnation_of
from fraudstream.shared_entities import HighMark, source_field, watermark_of
from fraudstream.v1.features_pb2 import EntityKind, EntityRow, EntityRowKind
from services.features.entity import fraud_change, fresh_rows

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


def _stored(marks: dict[str, HighMark]) -> dict[bytes, bytes]:
    return {name.encode(): mark.packed().encode() for name, mark in marks.items()}


def _offsets(rows: list[EntityRow]) -> list[int]:
    return [row.source_offset for row in rows]


def test_replayed_rows_are_skipped_and_new_ones_are_not() -> None:
    """A batch sent again after a crash counts only what was not counted before."""
    _, marks = fresh_rows([_entity_row(3), _entity_row(5)], {})

    again, _ = fresh_rows([_entity_row(offset) for offset in (3, 5, 6)], _stored(marks))

    assert _offsets(again) == [6]


def test_rows_repeated_within_one_batch_count_once() -> None:
    """The marks move with every row, not at the end of the batch."""
    fresh, _ = fresh_rows([_entity_row(offset) for offset in (3, 4, 3, 4, 5)], {})

    assert _offsets(fresh) == [3, 4, 5]


def test_two_entity_kinds_of_one_offset_both_count() -> None:
    """Terminal and merchant of one transaction may lie in one shard: kind is part of the mark."""
    rows = [_entity_row(3, entity_kind=_TERMINAL), _entity_row(3, entity_kind=_MERCHANT)]

    fresh, marks = fresh_rows(rows, {})
    again, _ = fresh_rows(rows, _stored(marks))

    assert len(fresh) == 2
    assert again == []


def test_a_crash_between_two_kinds_of_one_offset_loses_neither() -> None:
    """After the terminal's row alone, the replay still counts the merchant's."""
    terminal, merchant = _entity_row(3), _entity_row(3, entity_kind=_MERCHANT)
    _, marks = fresh_rows([terminal], {})

    fresh, _ = fresh_rows([terminal, merchant], _stored(marks))

    assert [row.entity_kind for row in fresh] == [_MERCHANT]


@pytest.mark.parametrize("other", [(_LABELS, 0), (_ACCEPTED, 1)])
def test_sources_are_told_apart_by_topic_and_partition(other: tuple[bytes, int]) -> None:
    """Labels share offsets with transactions, and partitions with each other."""
    fresh, _ = fresh_rows([_entity_row(9), _entity_row(2, source=other)], {})

    assert _offsets(fresh) == [9, 2]


def test_heartbeat_moves_the_mark_past_its_offset_and_counts_nothing() -> None:
    """A beat says that all rows of its offset and before have come."""
    fresh, marks = fresh_rows([_entity_row(8, _BEAT, time_ms=50)], {})
    again, _ = fresh_rows([_entity_row(8, entity_kind=_MERCHANT)], _stored(marks))

    assert fresh == []
    assert again == []


def test_time_of_a_source_never_falls() -> None:
    """A row whose record is older than the last does not take the watermark back."""
    _, marks = fresh_rows([_entity_row(1, time_ms=90), _entity_row(2, time_ms=40)], {})

    assert marks[source_field(_ACCEPTED, 0)] == HighMark(2, _TERMINAL, 90)


def test_watermark_is_the_slowest_source_and_zero_while_one_is_unheard_of() -> None:
    """Closed means closed for every partition of the log."""
    incarnation = incarnation_of(_ACCEPTED, 2)
    first = {source_field(_ACCEPTED, 0): HighMark(1, 1, 70)}
    both = first | {source_field(_ACCEPTED, 1): HighMark(1, 1, 60)}

    assert watermark_of(_stored(first), incarnation) == 0
    assert watermark_of(_stored(both), incarnation) == 60


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([True], [1]),
        ([True, True], [1, 0]),
        ([False], [0]),
        ([True, False], [1, -1]),
        ([True, False, False, True], [1, -1, 0, 1]),
    ],
)
def test_label_counts_once_and_a_changed_verdict_moves_the_count(
    verdicts: list[bool], expected: list[int]
) -> None:
    """A chargeback after a disposition adds nothing; a flip takes the fraud back."""
    known: dict[bytes, bytes | None] = {b"i" * 16: None}
    changes = []
    for is_fraud in verdicts:
        row = _entity_row(1, _LABEL)
        row.is_fraud = is_fraud
        changes.append(fraud_change(known, row))

    assert changes == expected
