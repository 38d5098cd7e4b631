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
import pyarrow.parquet as pq
import pytest

from fraudstream.errors import InvalidSettings
from tests.worlds.training_files import (
    Logs,
    assert_same_by_id,
    labels_table,
    set_request,
    simulated_transactions,
    transactions_table,
    write_shuffled,
)
from training.dataset import Examples, examples_between
from training.offline.build import make_dataset
from training.offline.load import load_dataset
from training.offline.plan import Request
from training.simulator.histories import DAY_MS, handbook_history, simulated_history
from training.simulator.simulate import Simulated, SimulationSettings, simulate
from training.train.slices import dataset_slices

SETTINGS = SimulationSettings(seed=5, cards=150, days=24)
FROM_MS = SETTINGS.start_ms + 3 * DAY_MS
UNTIL_MS = SETTINGS.start_ms + 20 * DAY_MS


def request_of(source: Path, **changes: Any) -> Request:
    """Return a request for the tested days of a canonical source."""
    return set_request(source, **({"from_ms": FROM_MS, "until_ms": UNTIL_MS} | changes))


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
    assert not (out / "_dataset.json").exists()

    subprocess.run(command_of(source, out, processes=2), check=True, capture_output=True)

    assert json.loads((out / "_dataset.json").read_text())["parts"] == whole["parts"]
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


def test_training_takes_a_set_by_shares_of_its_time(source: Path, tmp_path: Path) -> None:
    """Fit, stop, tune and test follow one another and leave no row out."""
    make_dataset(request_of(source), tmp_path / "set", 1)

    slices = dataset_slices(tmp_path / "set")

    chunks = (slices.fit, slices.stop, slices.tune, slices.test)
    assert sum(map(len, chunks)) == len(load_dataset(tmp_path / "set"))
    for earlier, later in pairwise(chunks):
        assert earlier.event_time_ms.max() < later.event_time_ms.min()


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
