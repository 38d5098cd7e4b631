"""Which accepted rows count, and which records are refused before they can stop a batch."""

from __future__ import annotations

import pytest
from aiokafka import ConsumerRecord

from fraudstream.features.state import VALUES, rows_of
from fraudstream.shard import pack_claim
from fraudstream.v1.decision_pb2 import AcceptedTransaction
from fraudstream.v1.transaction_pb2 import Transaction
from services.features.rows import AcceptedRow, BadRow, Verdict, decode_row, judge_rows
from tests.accepted_rows import accepted_record, transaction_of

_COUNTED, _DUPLICATE, _CONFLICT = Verdict.COUNTED, Verdict.DUPLICATE, Verdict.CONFLICT


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
def test_row_is_judged_by_record_then_claim(record: str, claim: str, expected: Verdict) -> None:
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
    record: str, claim: str, rows: list[AcceptedRow], expected: list[Verdict]
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


def test_record_without_key_is_refused() -> None:
    """A row without a key lies in no shard of its card."""
    assert _bad(accepted_record(transaction_of("t-1"), 0, key=None)) == "KEY_MISSING"


def test_record_with_the_key_of_another_card_is_refused() -> None:
    """A row in another card's shard would be counted beside its own."""
    assert _bad(accepted_record(transaction_of("t-1"), 0, key=b"other")) == "KEY_MISMATCH"


def test_other_bytes_are_refused() -> None:
    """What does not decode is dead-lettered, not raised."""
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
    """A row that cannot be packed is dead-lettered: it must not stop its shard for ever."""
    transaction = transaction_of("t-1")
    setattr(transaction, field, number)

    assert _bad(accepted_record(transaction, 0)) == "RANGE"


@pytest.mark.parametrize(("field", "degrees"), [("latitude", 1e300), ("longitude", -181.0)])
def test_place_that_is_not_on_earth_is_refused(field: str, degrees: float) -> None:
    """A coordinate beyond its range may not even fit into a packed row."""
    transaction = transaction_of("t-1")
    setattr(transaction.location, field, degrees)

    assert _bad(accepted_record(transaction, 0)) == "RANGE"


def test_merchant_code_that_is_no_number_of_four_digits_counts_as_unknown() -> None:
    """An odd MCC is packed as 0, whatever its digits."""
    rows = rows_of([Transaction(mcc=mcc) for mcc in ("5411", "99999", "x", "")])

    assert rows["value"][:, VALUES.index("mcc")].tolist() == [5411, 0, 0, 0]


def test_decision_that_came_with_the_row_is_kept() -> None:
    """A row that came by gRPC carries its decision through decoding."""
    accepted = AcceptedTransaction(transaction=transaction_of("t-1"))
    accepted.decision.decision_id = "d"
    record = accepted_record(None, 0, value=accepted.SerializeToString(), key=b"card-1")

    row = decode_row(record, 0.0)

    assert isinstance(row, AcceptedRow)
    assert row.accepted.decision.decision_id == "d"
