"""Training sets from rows written by hand: what may be missing, what counts, and what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.archive.columns import LABEL_SCHEMA
from fraudstream.errors import InvalidSettings
from tests.worlds.training_files import set_request
from training.cli import run
from training.offline.build import make_dataset
from training.offline.load import load_dataset, load_labels

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
    times = [TIME_MS, TIME_MS, TIME_MS + 2, TIME_MS + 3]
    table = rows_of(
        4,
        transaction_id=["a", "a", "b", "a"],
        card_token=["x", "x", "x", "y"],
        event_time_ms=times,
    )

    counts = make_of(tmp_path, table)

    assert (counts["wanted"], counts["duplicates"], counts["conflicts"]) == (3, 1, 0)
    found = pq.read_table(tmp_path / "set" / "part-00000.parquet")
    assert found["event_time_ms"].to_pylist() == times[1:]


def test_conflicts_are_told_from_copies_without_a_log(tmp_path: Path) -> None:
    """The same id with another amount is no copy."""
    table = rows_of(
        3,
        transaction_id=["a", "a", "a"],
        event_time_ms=[TIME_MS] * 3,
        amount_reference_minor=[100, 100, 200],
    )

    counts = make_of(tmp_path, table)

    assert (counts["wanted"], counts["duplicates"], counts["conflicts"]) == (1, 1, 1)


def test_made_set_is_read_as_a_folder_of_parquet(tmp_path: Path) -> None:
    """What lies beside the parts begins with an underscore, which readers of folders leave out."""
    make_of(tmp_path, rows_of(3))

    assert pq.read_table(tmp_path / "set").num_rows == 3


def test_columns_as_polars_and_pandas_write_them(tmp_path: Path) -> None:
    """Views of texts, a column in which everything is missing, and whole numbers with NaN."""
    table = rows_of(
        2,
        customer_id=pa.array(["c", None]).cast(pa.string_view()),
        device_id=pa.nulls(2),
        is_fraud=[1.0, float("nan")],
        label_arrival_time_ms=[float(TIME_MS + 9), float("nan")],
    )

    assert make_of(tmp_path, table)["frauds"] == 1
    assert load_labels(tmp_path / "set").is_known.tolist() == [True, False]


def card_numbers(count: int) -> list[str]:
    """Return card numbers of a test range, made here."""
    found = []
    for number in range(count):
        stem = f"400000{number:09d}"
        doubled = [int(mark) * (1 + (place % 2 == 0)) for place, mark in enumerate(stem)]
        total = sum(digit - 9 * (digit > 9) for digit in doubled)
        found.append(f"{stem}{-total % 10}")
    return found


@pytest.mark.parametrize("column", ["card_token", "customer_id"])
def test_card_numbers_are_refused_and_never_written_or_told(tmp_path: Path, column: str) -> None:
    """No card number past the door, offline either: file, column and row, not the number."""
    numbers = card_numbers(20)

    with pytest.raises(InvalidSettings, match=rf"rows.parquet: column {column}, row 0") as told:
        make_of(tmp_path, rows_of(20, **{column: numbers}))

    assert not any(number in str(told.value) for number in numbers)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    kept = [content for content in written if numbers[0].encode() in content]
    assert len(kept) <= 1  # the source alone


def test_card_numbers_of_the_handbooks_columns_are_named_by_the_files_own(tmp_path: Path) -> None:
    """Whole numbers too; the file has no column card_token."""
    numbers = [int(number) for number in card_numbers(8)]
    write_handbook(tmp_path, CUSTOMER_ID=numbers)

    with pytest.raises(InvalidSettings, match="column CUSTOMER_ID, row 0"):
        make_dataset(set_request(tmp_path / "rows.parquet", format="handbook"), tmp_path / "set", 1)


def test_long_ids_may_look_like_card_numbers_by_chance(tmp_path: Path) -> None:
    """One random number in ten has a right check digit; the column is judged as a whole."""
    drawn = np.random.default_rng(3).integers(4 * 10**15, 5 * 10**15, 2_000)

    assert make_of(tmp_path, rows_of(2_000, customer_id=drawn.astype(str)))["wanted"] == 2_000


def test_rows_that_ingest_refuses_may_be_dropped(tmp_path: Path) -> None:
    """Counted, and never by accident: it has to be asked for."""
    table = rows_of(4, amount_reference_minor=[100, 0, 100, -1], currency=["EUR"] * 3 + ["eur"])
    pq.write_table(table, tmp_path / "rows.parquet")
    request = set_request(tmp_path / "rows.parquet", is_dropping=True)

    counts = make_dataset(request, tmp_path / "set", 1)["counts"]

    assert (counts["wanted"], counts["refused"]) == (2, 2)


def test_labels_that_match_nothing_are_refused(tmp_path: Path) -> None:
    """A file of another bank's ids would make a set without frauds."""
    labels = labels_of([("other", "confirmed_fraud", TIME_MS + 10)])

    with pytest.raises(InvalidSettings, match="none of its 1 labels is about a transaction"):
        make_of(tmp_path, rows_of(3), labels)


def write_handbook(tmp_path: Path, **columns: Any) -> None:
    """Write a small file with the Handbook's columns, some of them changed."""
    count = len(next(iter(columns.values())))
    smallest = {
        "TRANSACTION_ID": list(range(count)),
        "TX_DATETIME": (TIME_MS + np.arange(count)).astype("datetime64[ms]"),
        "CUSTOMER_ID": [1] * count,
        "TERMINAL_ID": [1] * count,
        "TX_AMOUNT": [1.0] * count,
        "TX_FRAUD": [0] * count,
    }
    pq.write_table(pa.table(smallest | columns), tmp_path / "rows.parquet")


def test_times_with_a_zone_are_local_there(tmp_path: Path) -> None:
    """22:30 UTC in July is half past midnight in Brussels: a night."""
    moments = pa.array([1_784_500_200_000], pa.timestamp("ms", tz="Europe/Brussels"))
    write_handbook(tmp_path, TX_DATETIME=moments)

    make_dataset(set_request(tmp_path / "rows.parquet", format="handbook"), tmp_path / "set", 1)

    found = pq.read_table(tmp_path / "set" / "part-00000.parquet")
    assert found["is_night"].to_pylist() == [1.0]


def test_missing_id_of_the_handbook_is_named_by_its_column(tmp_path: Path) -> None:
    """pandas turns such a column into floats; the message is about the file's own column."""
    write_handbook(tmp_path, CUSTOMER_ID=[1.0, None])

    with pytest.raises(InvalidSettings, match=r"column CUSTOMER_ID, row 1 .*found nothing"):
        make_dataset(set_request(tmp_path / "rows.parquet", format="handbook"), tmp_path / "set", 1)


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


def test_undetermined_row_says_so(tmp_path: Path) -> None:
    """Somebody looked and could not tell; a row that nobody labelled has no disposition."""
    labels = labels_of(
        [
            ("t0", "confirmed_fraud", TIME_MS + 10),
            ("t0", "undetermined", TIME_MS + 20),
            ("t1", "undetermined", TIME_MS + 10),
        ]
    )

    make_of(tmp_path, rows_of(3), labels)

    found = pq.read_table(tmp_path / "set" / "part-00000.parquet")
    assert found["disposition"].to_pylist() == ["confirmed_fraud", "undetermined", None]


IN_ROWS = {
    "every row says what it is": ([1, 0, 0], [9, None, None], "genuine", [True] * 3),
    "some rows say nothing": ([1, 0, None], [9, None, None], "leave-out", [True, True, False]),
    "some genuine rows have a time": ([1, 0, 0], [9, 9, None], "leave-out", [True, True, False]),
}


@pytest.mark.parametrize("name", IN_ROWS)
def test_set_says_what_rows_without_a_label_count_as(tmp_path: Path, name: str) -> None:
    """By how its rows are labelled; who reads it may say otherwise."""
    is_fraud, arrival, unlabelled, is_known = IN_ROWS[name]
    times = [None if ms is None else TIME_MS + ms for ms in arrival]
    label_arrival = pa.array(times, pa.int64())

    make_of(tmp_path, rows_of(3, is_fraud=is_fraud, label_arrival_time_ms=label_arrival))

    found = load_labels(tmp_path / "set")
    assert found.rule.unlabelled == unlabelled
    assert found.is_known.tolist() == is_known


@pytest.mark.parametrize(
    ("others", "unlabelled"), [("confirmed_fraud", "genuine"), ("genuine", "leave-out")]
)
def test_label_file_says_what_rows_without_a_label_count_as(
    tmp_path: Path, others: str, unlabelled: str
) -> None:
    """Frauds alone: the rest is genuine. Genuine rows among them: the rest is unlabelled."""
    labels = labels_of([("t0", "confirmed_fraud", TIME_MS + 10), ("t1", others, TIME_MS + 10)])

    make_of(tmp_path, rows_of(3), labels)

    assert load_labels(tmp_path / "set").rule.unlabelled == unlabelled


BAD = {
    "nothing": (rows_of(2, amount_reference_minor=[1, 0]), "row 1 .*an amount over 0, but for a v"),
    "currency": (rows_of(1, currency=["usd"]), "column currency, row 0 .*three letters, as EUR"),
    "country": (rows_of(1, country=["UK"]), "column country, row 0 .*the United Kingdom is GB"),
    "ip": (rows_of(1, ip=["999.1.1.1"]), "column ip, row 0 .*an address"),
    "merchant": (rows_of(1, merchant_id=["m" * 500]), "column merchant_id, row 0 .*up to 64"),
    "id": (rows_of(1, transaction_id=["t" * 65]), "column transaction_id, row 0 .*1 to 64 print"),
    "bank": (rows_of(1, bank_id=["a bank"]), "column bank_id, row 0"),
    "track": (rows_of(1, customer_id=[";4" + "0" * 14 + "2=3012101"]), "found track data"),
    "word": (
        rows_of(2, is_fraud=["N", "Y"], label_arrival_time_ms=[None, TIME_MS]),
        "column is_fraud, row 0 .*expected 0 or 1, false or true, found 'N'",
    ),
    "early": (
        rows_of(1, is_fraud=[1], label_arrival_time_ms=[TIME_MS - 1]),
        "label_arrival_time_ms, row 0 .*a time after the transaction's",
    ),
    "amount": (rows_of(2, amount_reference_minor=[1, -5]), "amount_reference_minor, row 1"),
    "nan": (rows_of(1, amount_reference_minor=[float("nan")]), "expected whole numbers"),
    "null": (rows_of(2, event_time_ms=[TIME_MS, None]), "event_time_ms, row 1 .*found nothing"),
    "old": (rows_of(1, event_time_ms=[1_000]), "from the year 2000 on, found 1000"),
    "late": (rows_of(1, arrival_time_ms=[10**15]), "arrival_time_ms, row 0"),
    "kind": (rows_of(1, kind=["gift"]), "kind, row 0 .*expected one of purchase.*found 'gift'"),
    "card": (rows_of(2, card_token=["a", ""]), "card_token, row 1"),
    "column": (rows_of(1).drop_columns(["card_token"]), "column card_token is missing"),
    "verdict": (
        rows_of(2, is_fraud=[1, None], label_arrival_time_ms=[TIME_MS, TIME_MS]),
        "is_fraud, row 1 .*expected 0 or 1, as label_arrival_time_ms .*found nothing",
    ),
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


def test_spellings_of_one_entity_are_one_offline_too(tmp_path: Path) -> None:
    """Padded ids and long addresses count together, as at both doors."""
    merchants = ["SHOP01", "SHOP01     ", " SHOP01"]
    addresses = ["2001:db8::1", "2001:DB8:0:0:0:0:0:1", "2001:0db8::0001"]
    make_of(tmp_path, rows_of(3, merchant_id=merchants, ip=addresses))

    found = pq.read_table(tmp_path / "set" / "part-00000.parquet")
    assert found["card_merchants_24h"].to_pylist() == [1.0, 1.0, 1.0]
    assert found["card_ips_24h"].to_pylist() == [1.0, 1.0, 1.0]


def test_id_that_no_door_takes_is_refused_offline_too(tmp_path: Path) -> None:
    """The message names column and row."""
    with pytest.raises(InvalidSettings, match=r"column ip, row 1 .*: expected an address"):
        make_of(tmp_path, rows_of(2, ip=["192.0.2.1", "here"]))


def test_time_that_ends_before_it_begins_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A set without rows would look like one of quiet days."""
    times = ["--from=2026-02-01", "--to=2026-01-01"]

    assert run(["dataset", f"--source={tmp_path}", f"--out={tmp_path / 'set'}", *times]) == 78
    assert "--from: expected a time before --to" in capsys.readouterr().err
