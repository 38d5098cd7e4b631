"""Which accepted rows count, and which records are refused before they can stop a batch."""

from __future__ import annotations

import dataclasses

import pytest
from aiokafka import ConsumerRecord

from fraudstream.broker.wire.record_macs import WRITER
from fraudstream.features.state import VALUES, rows_of
from fraudstream.store.shard import pack_claim
from fraudstream.topics import partition_of
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from fraudstream.v1.transaction_pb2 import Transaction
from services.features.rows.accepted_rows import (
    AcceptedRow,
    BadRow,
    RowClass,
    decode_row,
    judge_rows,
    placed_row,
)
from tests.worlds.accepted_rows import (
    EVENT_MS,
    accepted_record,
    decision_about,
    token_of,
    transaction_of,
)

_COUNTED, _DUPLICATE, _CONFLICT = RowClass.COUNTED, RowClass.DUPLICATE, RowClass.CONFLICT


def _row(amount_minor: int, transaction_id: str = "t-1", offset: int = 7) -> AcceptedRow:
    row = decode_row(accepted_record(transaction_of(transaction_id, amount_minor), offset), 0.0)
    assert isinstance(row, AcceptedRow)
    return row


# Three bodies of one transaction id stand for three digests.
_D1, _D2, _D3 = _row(100), _row(200), _row(300)
_DIGESTS = {"": None, "d1": _D1.digest, "d2": _D2.digest, "d3": _D3.digest}


@pytest.mark.parametrize(
    ("record", "claim", "expected"),
    [
        ("", "", _COUNTED),
        ("d1", "", _COUNTED),
        ("d2", "", _CONFLICT),
        ("", "d1", _DUPLICATE),
        ("d1", "d1", _DUPLICATE),
        ("", "d2", _CONFLICT),
        ("d1", "d2", _COUNTED),
        ("d2", "d1", _CONFLICT),
        ("d2", "d2", _CONFLICT),
        ("d3", "d2", _CONFLICT),
    ],
)
def test_row_is_judged_by_record_then_claim(record: str, claim: str, expected: RowClass) -> None:
    """The decision's digest wins over the claim's; without a decision the first claim counts."""
    known, decided = _DIGESTS[claim], _DIGESTS[record]
    claims = [pack_claim(known, 3) if known else None]
    records = [decided + b"decision" if decided else None]

    assert judge_rows([_D1], claims, records) == [expected]


@pytest.mark.parametrize(
    ("record", "claim", "rows", "expected"),
    [
        ("", "", [_D1, _D1], [_COUNTED, _DUPLICATE]),
        ("", "", [_D1, _D2, _D1], [_COUNTED, _CONFLICT, _DUPLICATE]),
        ("d1", "", [_D2, _D1, _D1], [_CONFLICT, _COUNTED, _DUPLICATE]),
        ("d1", "d2", [_D1, _D1, _D2], [_COUNTED, _DUPLICATE, _CONFLICT]),
        ("", "d1", [_D2, _D1], [_CONFLICT, _DUPLICATE]),
    ],
)
def test_rows_of_the_same_batch_claim_for_those_behind_them(
    record: str, claim: str, rows: list[AcceptedRow], expected: list[RowClass]
) -> None:
    """A row that counts is known to the rows behind it, before anything is written."""
    known, decided = _DIGESTS[claim], _DIGESTS[record]
    claims = [pack_claim(known, 3) if known else None] * len(rows)
    records = [decided + b"decision" if decided else None] * len(rows)

    assert judge_rows(rows, claims, records) == expected


def test_other_transactions_of_the_batch_do_not_matter() -> None:
    """Claims are by identity: two transactions of one card both count."""
    rows = [_D1, _row(100, "t-2")]

    assert judge_rows(rows, [None, None], [None, None]) == [_COUNTED, _COUNTED]


def _bad(record: ConsumerRecord) -> str:
    row = decode_row(record, 0.0)
    assert isinstance(row, BadRow)
    return row.reason


def test_row_in_another_partition_than_its_key_is_refused() -> None:
    """Its card's shard is another one: there a copy of it would be decided a second time."""
    row = decode_row(accepted_record(transaction_of("t-1"), 0), 0.0)
    count = next(n for n in range(2, 9) if partition_of(token_of("card-1").encode(), n) != 0)

    misplaced = placed_row(row, count)

    assert placed_row(row, 1) is row
    assert isinstance(misplaced, BadRow)
    assert misplaced.reason == "PARTITION_MISMATCH"
    assert f"of {count} for its key, found 0" in misplaced.message


def test_record_without_key_is_refused() -> None:
    """A row without a key lies in no shard of its card."""
    assert _bad(accepted_record(transaction_of("t-1"), 0, key=None)) == "KEY"


def test_record_with_the_key_of_another_card_is_refused() -> None:
    """A row in another card's shard would be counted beside its own."""
    assert _bad(accepted_record(transaction_of("t-1"), 0, key=b"other")) == "KEY"


def test_other_bytes_are_refused() -> None:
    """What does not decode is passed over, not raised."""
    assert _bad(accepted_record(None, 0, value=b"\xff\xff\xff", key=b"k")) == "DECODE"


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("kind", 300),
        ("channel", -200),
        ("utc_offset_minutes", 40_000),
        ("event_time_ms", -1),
        ("amount_reference_minor", -1),
    ],
)
def test_number_that_no_state_can_hold_is_refused(field: str, number: int) -> None:
    """A row that cannot be packed is passed over: it must not stop its shard for ever."""
    transaction = transaction_of("t-1")
    setattr(transaction, field, number)

    assert _bad(accepted_record(transaction, 0)) == "BOUNDS"


@pytest.mark.parametrize(("field", "degrees"), [("latitude", 1e300), ("longitude", -181.0)])
def test_place_that_is_not_on_earth_is_refused(field: str, degrees: float) -> None:
    """A coordinate beyond its range may not even fit into a packed row."""
    transaction = transaction_of("t-1")
    setattr(transaction.location, field, degrees)

    assert _bad(accepted_record(transaction, 0)) == "BOUNDS"


def test_merchant_code_that_is_no_number_of_four_digits_counts_as_unknown() -> None:
    """An odd MCC is packed as 0, whatever its digits."""
    rows = rows_of([Transaction(mcc=mcc) for mcc in ("5411", "99999", "x", "")])

    assert rows["value"][:, VALUES.index("mcc")].tolist() == [5411, 0, 0, 0]


def test_decision_that_came_with_the_row_is_kept() -> None:
    """A row that came by gRPC carries its decision through decoding."""
    transaction = transaction_of("t-1")
    decision = decision_about(transaction)
    accepted = AcceptedTransaction(transaction=transaction, decision=decision)
    key = transaction.card_token.encode()

    row = decode_row(accepted_record(None, 0, accepted.SerializeToString(), key), 0.0)

    assert isinstance(row, AcceptedRow)
    assert row.accepted.decision == decision


_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


def _stamped(stamp_ms: int, event_time_ms: int) -> AcceptedRow:
    """Return a row with a stamp of the raw topic, appended to the accepted topic at `EVENT_MS`."""
    transaction = transaction_of("t-1", event_time_ms=event_time_ms)
    accepted = AcceptedTransaction(transaction=transaction, raw_append_time_ms=stamp_ms)
    key = transaction.card_token.encode()
    row = decode_row(accepted_record(None, 7, accepted.SerializeToString(), key), 0.0)
    assert isinstance(row, AcceptedRow)
    return row


@pytest.mark.parametrize(
    ("stamp_ms", "event_time_ms"),
    [
        (0, EVENT_MS),
        (1, EVENT_MS),
        (-1, EVENT_MS),
        (-(2**63), EVENT_MS),
        (2**63 - 1, EVENT_MS),
        (EVENT_MS + 25 * _HOUR_MS, EVENT_MS),
        (EVENT_MS - 50 * _HOUR_MS, EVENT_MS),
        (EVENT_MS - 11 * _DAY_MS, EVENT_MS - 11 * _DAY_MS),
    ],
)
def test_stamp_that_ingest_cannot_have_written_counts_for_nothing(
    stamp_ms: int, event_time_ms: int
) -> None:
    """The row waits since its own topic took it, and no sum with its stamp can overflow."""
    row = _stamped(stamp_ms, event_time_ms)

    assert row.waits_since_ms == EVENT_MS
    assert row.accepted.raw_append_time_ms == 0


@pytest.mark.parametrize("event_ahead_ms", [-_DAY_MS, 0, _HOUR_MS])
@pytest.mark.parametrize("waited_ms", [0, 50 * _HOUR_MS, 3 * _DAY_MS])
def test_row_that_waited_for_ingest_is_as_old_as_in_the_raw_topic(
    waited_ms: int, event_ahead_ms: int
) -> None:
    """All that ingest takes is plausible: an event a day late, or an hour ahead, and any wait."""
    stamp_ms = EVENT_MS - waited_ms

    assert _stamped(stamp_ms, stamp_ms + event_ahead_ms).waits_since_ms == stamp_ms


def test_decision_in_a_row_of_ingest_is_refused() -> None:
    """Ingest reads the bytes of banks: whoever takes it over must not decide."""
    transaction = transaction_of("t-1")
    accepted = AcceptedTransaction(transaction=transaction, decision=decision_about(transaction))
    key = transaction.card_token.encode()
    record = accepted_record(None, 0, accepted.SerializeToString(), key)

    by_ingest = dataclasses.replace(record, headers=((WRITER, b"ingest"),))
    by_scoring = dataclasses.replace(record, headers=((WRITER, b"scoring"),))

    assert _bad(by_ingest) == "WRITER"
    assert isinstance(decode_row(by_scoring, 0.0), AcceptedRow)
