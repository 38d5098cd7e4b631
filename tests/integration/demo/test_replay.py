"""A recorded data set through the whole line: every row decided, the past loaded first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo.cli import run
from demo.recorded import Recorded
from fraudstream.transaction.card_token import Tokeniser, TokenKeys
from fraudstream.v1.transaction_pb2 import TRANSACTION_KIND_VERIFICATION
from harness.processes import PROJECT_FOLDER

_DAY_MS = 86_400_000
_START_MS = int(datetime(2018, 7, 1, tzinfo=UTC).timestamp()) * 1_000
_DAYS = 24


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file with the Handbook's columns: 24 days, 60 cards, some fraud, one zero amount.

    Ids are long, as a bank's are, and the terminals with the highest ones are new in the last days.
    """
    rng = np.random.default_rng(3)
    rows = 3_000
    times = np.sort(rng.integers(0, _DAYS * _DAY_MS // 1_000, rows)) * 1_000 + _START_MS
    amounts = rng.gamma(2.0, 30.0, rows).round(2).astype(np.float32)
    amounts[-1] = 0.0
    terminals = rng.integers(0, 80, rows)
    terminals[times >= _START_MS + 21 * _DAY_MS] += 5
    columns = {
        "TRANSACTION_ID": np.arange(rows, dtype=np.int32),
        "TX_DATETIME": times.astype("datetime64[ms]"),
        "CUSTOMER_ID": rng.integers(0, 60, rows) * 1_000_003 + 4_000_000_000,
        "TERMINAL_ID": terminals * 100_003 + 10_000_000,
        "TX_AMOUNT": amounts,
        "TX_FRAUD": (rng.random(rows) < 0.03).astype(np.int8),
    }
    path = tmp_path_factory.mktemp("data") / "recorded.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_the_past_ends_where_the_span_begins(data_set: Path) -> None:
    """History and span share no row, and miss none."""
    recorded = Recorded.read(data_set)
    from_ms = _START_MS + 20 * _DAY_MS
    past = recorded.past(from_ms, Tokeniser(TokenKeys("k1", {"k1": bytes(32)})))
    rows = recorded.rows_between(from_ms, _START_MS + _DAYS * _DAY_MS)

    assert len(past.labelled.is_fraud) + len(rows) == 3_000
    assert int(past.labelled.event_time_ms.max()) < from_ms
    assert recorded.transaction(rows[0]).event_time_ms >= from_ms


def test_rows_go_out_under_the_ids_of_the_file(data_set: Path) -> None:
    """Numbers are for arrays; the stream sees the file's own terminal, and one PAN a customer."""
    recorded = Recorded.read(data_set)
    columns = pq.read_table(data_set)
    sent = [recorded.transaction(row) for row in range(3_000)]
    customers = columns["CUSTOMER_ID"].to_pylist()

    assert [each.terminal_id for each in sent] == [
        str(n) for n in columns["TERMINAL_ID"].to_pylist()
    ]
    assert len(set(zip(customers, (each.pan for each in sent), strict=True))) == len(set(customers))


def test_an_amount_of_zero_is_a_verification(data_set: Path) -> None:
    """The contract has no purchase of nothing; a bank sends such a row as a verification."""
    assert Recorded.read(data_set).transaction(2_999).kind == TRANSACTION_KIND_VERIFICATION


def test_a_label_comes_with_its_arrival(data_set: Path) -> None:
    """Labels after a moment come in the order of their arrival, 7 days after their events."""
    recorded = Recorded.read(data_set)
    after_ms = _START_MS + 15 * _DAY_MS
    rows = recorded.labels_after(after_ms)
    arrivals = [int(recorded.history.label_arrival_ms[row]) for row in rows]

    assert arrivals == sorted(arrivals)
    assert min(arrivals) > after_ms
    assert all(recorded.history.is_fraud[row] for row in rows)


@pytest.mark.parametrize(
    ("span", "code", "said"),
    [
        (["--from", "2019-01-01"], os.EX_CONFIG, "the file has those of 2018-07-01 to 2018-07-24"),
        (["--from", "2018-07-22", "--days", "0"], os.EX_USAGE, "a whole number from 1 on"),
        (["--from", "22.7.2018"], os.EX_USAGE, "a day as YYYY-MM-DD"),
    ],
)
def test_a_span_without_rows_is_told_before_a_model_is_trained(
    data_set: Path,
    tmp_path: Path,
    span: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing decided of nothing sent is no success, and training takes minutes."""
    folder = tmp_path / "demo"

    assert run(["--folder", str(folder), "replay", str(data_set), *span]) == code
    assert said in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.slow
def test_a_replay_decides_every_row(data_set: Path, tmp_path: Path) -> None:
    """The span goes through the services; sent equals decided, and the figures are written."""
    summary = tmp_path / "out.json"
    command = [sys.executable, "-m", "demo", "--folder", str(tmp_path), "replay", str(data_set)]
    command += ["--from", "2018-07-22", "--days", "3", "--model", "models/demo"]
    bare = {n: text for n, text in os.environ.items() if not n.startswith(("FRAUD_", "KAFKA_"))}
    done = subprocess.run(
        [*command, "--summary", str(summary)],
        cwd=PROJECT_FOLDER,
        env=bare,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = json.loads(summary.read_text()) if summary.exists() else {}

    assert done.returncode == 0, done.stdout + done.stderr
    assert found["sent"] == found["decided"] > 300
    assert {"ap", "auc", "cp100"} <= found.keys()
