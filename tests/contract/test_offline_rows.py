"""Training sets from rows written by hand: what may be missing, what counts, and what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.canonical import LABEL_SCHEMA
from fraudstream.errors import InvalidSettings
from tests.training_files import set_request
from training.offline.build import make_dataset
from training.offline.load import load_dataset

TIME_MS = 1_767_600_000_000


def rows_of(count: int, **columns: Any) -> pa.Table:
    """Return a smallest canonical table, with columns changed or added."""
    smallest: dict[str, Any] = {
        "card_token": ["card"] * count,
        "transaction_id": [f"t{number}" for number in range(count)],
        "amount_reference_minor": [100] * count,
        "event_time_ms": [TIME_MS + number for number in range(count)],
    }
    return pa.table(smallest | columns)


def make_of(tmp_path: Path, table: pa.Table, labels: pa.Table | None = None) -> dict[str, Any]:
    """Make the set of one small table; return its counts."""
    pq.write_table(table, tmp_path / "rows.parquet")
    request = set_request(tmp_path / "rows.parquet")
    if labels is not None:
        pq.write_table(labels, tmp_path / "labels.parquet")
        request = replace(request, labels=str(tmp_path / "labels.parquet"))
    counts: dict[str, Any] = make_dataset(request, tmp_path / "set", 1)["counts"]
    return counts


def test_optional_columns_may_be_missing(tmp_path: Path) -> None:
    """Four columns are enough: a purchase without entities, which arrived when it happened."""
    counts = make_of(tmp_path, rows_of(3))

    found = pq.read_table(tmp_path / "set" / "part-00000.parquet")
    assert counts["wanted"] == 3
    assert found["arrival_time_ms"].to_pylist() == found["event_time_ms"].to_pylist()
    assert found["card_count_1h"].to_pylist() == [1.0, 2.0, 3.0]
    assert np.isnan(found["terminal_count_1h"].to_numpy()).all()
    assert found["label_arrival_ms"].null_count == 3


def test_first_of_several_copies_counts(tmp_path: Path) -> None:
    """An id that comes again on its card is dropped and counted; on another card it is not."""
    table = rows_of(4, transaction_id=["a", "a", "b", "a"], card_token=["x", "x", "x", "y"])

    counts = make_of(tmp_path, table)

    assert (counts["wanted"], counts["duplicates"]) == (3, 1)
    found = pq.read_table(tmp_path / "set" / "part-00000.parquet")
    assert found["event_time_ms"].to_pylist() == [TIME_MS, TIME_MS + 2, TIME_MS + 3]


def test_rows_that_happened_at_once_go_by_their_ids(tmp_path: Path) -> None:
    """Arrival, event time, id: the order of the file is the last that counts."""
    table = rows_of(3, transaction_id=["c", "a", "b"], event_time_ms=[TIME_MS] * 3)

    make_of(tmp_path, table)

    found = pq.read_table(tmp_path / "set" / "part-00000.parquet")
    assert found["transaction_id"].to_pylist() == ["a", "b", "c"]


def test_offsets_win_over_times(tmp_path: Path) -> None:
    """With a log, a partition's rows stay in the order of their offsets, whatever clocks said."""
    arrival = [TIME_MS + 5, TIME_MS + 1, TIME_MS + 9]
    table = rows_of(3, arrival_time_ms=arrival, log_offset=[4, 5, 9])

    make_of(tmp_path, table)

    found = pq.read_table(tmp_path / "set" / "part-00000.parquet")
    assert found["transaction_id"].to_pylist() == ["t0", "t1", "t2"]
    assert found["arrival_time_ms"].to_pylist() == [TIME_MS + 5, TIME_MS + 5, TIME_MS + 9]


def test_copies_and_conflicts_of_a_log_are_told_apart(tmp_path: Path) -> None:
    """Without decisions too: the same content again is a copy, another amount a conflict."""
    table = rows_of(
        4,
        transaction_id=["a", "a", "a", "b"],
        event_time_ms=[TIME_MS] * 4,
        amount_reference_minor=[100, 100, 200, 100],
        log_offset=[1, 2, 3, 4],
    )

    counts = make_of(tmp_path, table)

    assert (counts["wanted"], counts["duplicates"], counts["conflicts"]) == (2, 1, 1)


def labels_of(verdicts: list[tuple[str, str, int]]) -> pa.Table:
    """Return labels of the card `card`: transaction, disposition, arrival."""
    return pa.table(
        {
            "card_token": ["card"] * len(verdicts),
            "transaction_id": [name for name, _, _ in verdicts],
            "disposition": [verdict for _, verdict, _ in verdicts],
            "arrival_time_ms": [ms for _, _, ms in verdicts],
        }
    )


@pytest.mark.parametrize("count", [0, 3])
def test_set_without_rows_is_a_set(tmp_path: Path, count: int) -> None:
    """No row in the source or none in the asked time: nothing is kept, nothing fails."""
    pq.write_table(rows_of(3).slice(0, count), tmp_path / "rows.parquet")
    request = set_request(tmp_path / "rows.parquet", from_ms=0, until_ms=1, shards=2)

    made = make_dataset(request, tmp_path / "set", 1)

    assert (made["counts"]["rows"], made["counts"]["wanted"], made["parts"]) == (count, 0, [])
    assert len(load_dataset(tmp_path / "set")) == 0


def test_last_verdict_is_the_label(tmp_path: Path) -> None:
    """A verdict that turns replaces the first; undetermined says nothing; a stray is counted."""
    labels = labels_of(
        [
            ("t0", "confirmed_fraud", TIME_MS + 10),
            ("t0", "genuine", TIME_MS + 20),
            ("t0", "genuine", TIME_MS + 30),
            ("t1", "undetermined", TIME_MS + 10),
            ("t2", "confirmed_fraud", TIME_MS + 10),
            ("t2", "confirmed_fraud", TIME_MS + 40),
            ("nobody", "confirmed_fraud", TIME_MS + 10),
        ]
    )

    counts = make_of(tmp_path, rows_of(3), labels)

    found = pq.read_table(tmp_path / "set" / "part-00000.parquet")
    assert found["is_fraud"].to_pylist() == [False, False, True]
    assert found["label_arrival_ms"].to_pylist() == [TIME_MS + 20, None, TIME_MS + 10]
    assert (counts["labels"], counts["labels_without_transaction"]) == (6, 1)


BAD = {
    "amount": (rows_of(2, amount_reference_minor=[1, -5]), "amount_reference_minor, row 1"),
    "nan": (rows_of(1, amount_reference_minor=[float("nan")]), "expected whole numbers"),
    "null": (rows_of(2, event_time_ms=[TIME_MS, None]), "event_time_ms, row 1 .*found nothing"),
    "old": (rows_of(1, event_time_ms=[1_000]), "from the year 2000 on, found 1000"),
    "late": (rows_of(1, arrival_time_ms=[10**15]), "arrival_time_ms, row 0"),
    "kind": (rows_of(1, kind=["gift"]), "kind, row 0 .*expected one of purchase.*found 'gift'"),
    "card": (rows_of(2, card_token=["a", ""]), "card_token, row 1"),
    "column": (rows_of(1).drop_columns(["card_token"]), "column card_token is missing"),
    "label": (rows_of(1, is_fraud=[True]), "label_arrival_time_ms is missing"),
    "order": (rows_of(2, log_offset=[5, 5]), "found 5 after 5"),
    "place": (rows_of(1, latitude=[91.0], longitude=[0.0]), "latitude, row 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_value_is_named_by_file_column_and_row(tmp_path: Path, name: str) -> None:
    """What is wrong, where, what was expected and what was found."""
    table, message = BAD[name]

    with pytest.raises(InvalidSettings, match=message) as refusal:
        make_of(tmp_path, table)

    assert "rows.parquet" in str(refusal.value)


@pytest.mark.parametrize("amount", [float("nan"), -0.5])
def test_bad_amount_of_the_handbook_is_named(tmp_path: Path, amount: float) -> None:
    """The book's amounts are numbers, so not a number is found by its row."""
    table = {
        "TRANSACTION_ID": [0, 1],
        "TX_DATETIME": np.array([TIME_MS, TIME_MS + 1]).astype("datetime64[ms]"),
        "CUSTOMER_ID": [1, 1],
        "TERMINAL_ID": [1, 1],
        "TX_AMOUNT": [1.0, amount],
        "TX_FRAUD": [0, 0],
    }
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")

    with pytest.raises(InvalidSettings, match="TX_AMOUNT, row 1"):
        make_dataset(set_request(tmp_path / "rows.parquet", format="handbook"), tmp_path / "set", 1)


def test_label_columns_are_the_archives(tmp_path: Path) -> None:
    """An empty label file with the archive's columns is a label file."""
    assert make_of(tmp_path, rows_of(1), LABEL_SCHEMA.empty_table())["labels"] == 0
