"""Training sets from files: the stream's features bit for bit, however the work is cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.canonical import LABEL_SCHEMA
from fraudstream.errors import InvalidSettings
from tests.training_files import (
    Logs,
    assert_same_by_id,
    labels_table,
    simulated_transactions,
    transactions_table,
    write_shuffled,
)
from training.dataset import Examples, examples_between
from training.histories import DAY_MS, handbook_history, simulated_history
from training.offline.build import make_dataset
from training.offline.load import load_dataset
from training.offline.plan import Request
from training.simulate import Simulated, SimulationSettings, simulate
from training.slices import dataset_slices

SETTINGS = SimulationSettings(seed=5, cards=150, days=24)
FROM_MS = SETTINGS.start_ms + 3 * DAY_MS
UNTIL_MS = SETTINGS.start_ms + 20 * DAY_MS


def request_of(source: Path, **changes: Any) -> Request:
    """Return a request for the tested days of a canonical source."""
    request = Request(str(source), "canonical", "", FROM_MS, UNTIL_MS, -1, 0)
    return replace(request, **changes)


def assert_same(found: Examples, expected: Examples) -> None:
    """Compare two sets of examples bit for bit; the numbers of cards are each one's own."""
    for name in ("vectors", "sequences", "is_fraud", "event_time_ms", "amount_minor"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes(), name
    pairs = np.unique(np.stack([found.card, expected.card]), axis=1)
    assert pairs.shape[1] == len(np.unique(found.card)) == len(np.unique(expected.card))


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    """A small history with every kind of fraudster."""
    return simulate(SETTINGS)


@pytest.fixture(scope="module")
def source(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its rows as files, in no order, with their labels."""
    table = transactions_table(simulated_transactions(simulated), simulated.label_arrival_ms)
    return write_shuffled(tmp_path_factory.mktemp("files") / "rows", table, 3, seed=1)


@pytest.fixture(scope="module")
def expected(simulated: Simulated) -> Examples:
    """What the in-memory driver makes of it."""
    return examples_between(simulated_history(simulated), FROM_MS, UNTIL_MS)


@pytest.mark.parametrize(("shards", "processes"), [(1, 1), (5, 1), (3, 2)])
def test_features_are_those_of_the_in_memory_replay(
    source: Path, expected: Examples, tmp_path: Path, shards: int, processes: int
) -> None:
    """Bit for bit, for any number of shards and processes, whatever the order of the files."""
    made = make_dataset(request_of(source, shards=shards), tmp_path / "set", processes)

    assert_same(load_dataset(tmp_path / "set"), expected)
    assert made["counts"]["wanted"] == len(expected)
    assert made["counts"]["frauds"] == int(expected.is_fraud.sum())


def test_set_may_keep_the_last_steps_alone(
    source: Path, expected: Examples, tmp_path: Path
) -> None:
    """Boosting reads the row's own step; the network, which reads all, refuses such a set."""
    make_dataset(request_of(source, steps=1), tmp_path / "set", 1)

    found = load_dataset(tmp_path / "set")
    assert_same(found, replace(expected, sequences=expected.sequences[:, -1:]))
    with pytest.raises(InvalidSettings, match="reads 32 steps, found 1"):
        dataset_slices(tmp_path / "set")


def test_labels_of_a_file_are_those_of_the_rows(
    simulated: Simulated, expected: Examples, tmp_path: Path
) -> None:
    """A label file that names only transactions takes their entities from the transactions."""
    transactions = simulated_transactions(simulated)
    rows = write_shuffled(tmp_path / "rows", transactions_table(transactions), 1, seed=2)
    pq.write_table(labels_table(transactions, simulated.label_arrival_ms), tmp_path / "l.parquet")
    request = request_of(rows, labels=str(tmp_path / "l.parquet"), shards=2)

    make_dataset(request, tmp_path / "set", 1)

    assert_same(load_dataset(tmp_path / "set"), expected)


def test_archive_counts_each_transaction_as_the_stream_does(
    simulated: Simulated, expected: Examples, tmp_path: Path
) -> None:
    """The first row with the digest of the first decision; the first row where there is none."""
    logs = Logs(simulated, partitions=3)
    root = logs.write_archive(tmp_path / "archive")

    counts = make_dataset(request_of(root, shards=2), tmp_path / "set", 1)["counts"]

    assert_same_by_id(tmp_path / "set", expected)
    extra = logs.count("accepted") - len(simulated)
    assert counts["rows"] == len(simulated)
    assert counts["duplicates"] == len(range(0, len(simulated), 10))
    assert counts["conflicts"] == extra - counts["duplicates"]


def command_of(source: Path, out: Path, processes: int = 1) -> list[str]:
    """Return the command line of a set of the whole history."""
    return [
        *(sys.executable, "-m", "training", "dataset", "--source", str(source)),
        *("--out", str(out), "--shards", "3", "--processes", str(processes)),
    ]


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run that nobody kills makes of the whole history."""
    request = Request(str(source), "canonical", "", 0, sys.maxsize, -1, 3)
    return make_dataset(request, tmp_path_factory.mktemp("whole") / "set", 1)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["read:2", "order:1", "cards:2", "entities:7", "join:1"])
def test_run_that_was_killed_goes_on(
    source: Path, whole: dict[str, Any], tmp_path: Path, stage: str
) -> None:
    """Killed between a task's work and its done file; the second run makes the very same parts."""
    out = tmp_path / "set"
    killed = subprocess.run(
        command_of(source, out),
        env=os.environ | {"FRAUD_CRASH_AT": f"dataset_{stage}"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "dataset.json").exists()

    subprocess.run(command_of(source, out, processes=2), check=True, capture_output=True)

    assert json.loads((out / "dataset.json").read_text())["parts"] == whole["parts"]
    assert not (out / ".work").exists()


@pytest.mark.slow
def test_process_that_was_ended_says_how_to_go_on(source: Path, tmp_path: Path) -> None:
    """One of several processes is killed, as for its memory: exit 75, and the next run ends."""
    out = tmp_path / "set"
    killed = subprocess.run(
        command_of(source, out, processes=2),
        env=os.environ | {"FRAUD_CRASH_AT": "dataset_cards:1"},
        check=False,
        capture_output=True,
        text=True,
    )

    assert killed.returncode == 75, killed.stderr
    assert "call again" in killed.stderr
    assert subprocess.run(command_of(source, out), check=False).returncode == 0


def test_folder_of_another_set_is_refused(source: Path, tmp_path: Path) -> None:
    """Other arguments in the same folder: the message names the first that differs."""
    make_dataset(request_of(source), tmp_path / "set", 1)

    with pytest.raises(InvalidSettings, match="another until_ms"):
        make_dataset(request_of(source, until_ms=UNTIL_MS - 1), tmp_path / "set", 1)


def test_finished_set_is_found_again(source: Path, tmp_path: Path) -> None:
    """The same arguments once more change nothing."""
    made = make_dataset(request_of(source), tmp_path / "set", 1)

    assert make_dataset(request_of(source), tmp_path / "set", 1) == json.loads(json.dumps(made))


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
    request = request_of(tmp_path / "rows.parquet", from_ms=0, until_ms=sys.maxsize)
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
    request = request_of(tmp_path / "rows.parquet", from_ms=0, until_ms=1, shards=2)

    made = make_dataset(request, tmp_path / "set", 1)

    assert (made["counts"]["rows"], made["counts"]["wanted"], made["parts"]) == (count, 0, [])
    assert len(load_dataset(tmp_path / "set")) == 0


def test_training_takes_a_set_by_shares_of_its_time(source: Path, tmp_path: Path) -> None:
    """Fit, stop, tune and test follow one another and leave no row out."""
    make_dataset(request_of(source), tmp_path / "set", 1)

    slices = dataset_slices(tmp_path / "set")

    lots = (slices.fit, slices.stop, slices.tune, slices.test)
    assert sum(map(len, lots)) == len(load_dataset(tmp_path / "set"))
    for earlier, later in pairwise(lots):
        assert earlier.event_time_ms.max() < later.event_time_ms.min()


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
        make_dataset(request_of(tmp_path / "rows.parquet", format="handbook"), tmp_path / "set", 1)


def test_label_columns_are_the_archives(tmp_path: Path) -> None:
    """An empty label file with the archive's columns is a label file."""
    assert make_of(tmp_path, rows_of(1), LABEL_SCHEMA.empty_table())["labels"] == 0


@pytest.mark.dataset
@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_handbook_has_the_features_of_the_in_memory_replay(
    data_dir: Path, tmp_path: Path, processes: int
) -> None:
    """The first 300,000 rows of the published file, bit for bit."""
    file = tmp_path / "handbook.parquet"
    pq.write_table(pq.read_table(data_dir / "handbook_2018.parquet").slice(0, 300_000), file)
    request = Request(str(file), "handbook", "", 0, sys.maxsize, -1, 0)

    make_dataset(request, tmp_path / "set", processes)

    assert_same(
        load_dataset(tmp_path / "set"), examples_between(handbook_history(file), 0, sys.maxsize)
    )
