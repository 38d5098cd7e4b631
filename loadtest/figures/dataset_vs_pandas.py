"""The Handbook's training set: ours against the same features by pandas, per row.

All sides begin with the Parquet file of the same cards, a fifth of them all (pandas takes a minute
on the whole), and end with a Parquet file of features. Pandas computes what it can express, in
memory. Ours computes the whole catalogue and the row's own codes, in memory too: what training of
the boosting does, and what the command writes a file with. The sequences of the network are left
out, as pandas has none. Beside the figure stands `python -m training dataset --steps 1` on the
same rows: it keeps its work in files between five stages, so that memory is bounded and a run that
was cut off goes on.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa

from demo.settings import MachineSettings
from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.warm_up import warm_up
from loadtest.bench.figure import Figure, Plan, Round, Side
from loadtest.bench.spent import beside, spent
from loadtest.figures.handbook import lacking_for_handbook, write_cards
from loadtest.figures.pandas_features import pandas_features
from training.dataset import examples_between
from training.histories import handbook_history
from training.offline.build import make_dataset
from training.offline.parts import feature_columns, part_schema, sequence_column, write_parquet
from training.offline.plan import Request
from training.offline.sources import HANDBOOK

CARDS: Final = 1_000

# Reads a file of transactions and writes features: into a file, the command into a folder.
Writer = Callable[[Path, Path], None]


class DatasetVsPandas:
    """Features of every transaction, written to a file."""

    figures = (
        Figure(
            "dataset_vs_pandas",
            "Training set of the Handbook, CPU a row: pandas rolling windows / ours",
            "ratio",
            must=20.0,
            aim=100.0,
        ),
    )

    def __init__(self, machine: MachineSettings) -> None:
        self._machine = machine

    def lacking(self) -> str:
        """Return why this machine cannot run it, empty where it can."""
        return lacking_for_handbook(self._machine)

    @contextmanager
    def open(self, plan: Plan) -> Iterator[Mapping[str, Side]]:
        """Write the transactions of the cards, and run each side once."""
        warm_up()
        plan.folder.mkdir(parents=True, exist_ok=True)
        rows = plan.folder / "rows.parquet"
        count = write_cards(self._machine, plan.rows(CARDS, 5), rows)
        writers = {"ours": write_dataset, "pandas": write_pandas, "command": run_command}
        sides = {
            name: _side(write, rows, plan.folder / f"{name}-features", count)
            for name, write in writers.items()
        }
        for side in sides.values():
            side()
        yield sides

    def values(self, measured: Round) -> dict[str, float]:
        """Return the ratio of one round, with what each side spent on a row."""
        pandas, ours = measured["pandas"], measured["ours"]
        return {
            "dataset_vs_pandas": pandas["cpu_us"] / ours["cpu_us"],
            "wall ratio": pandas["wall_us"] / ours["wall_us"],
            "command ratio": pandas["cpu_us"] / measured["command"]["cpu_us"],
            **beside(dict(measured)),
        }


def _side(write: Writer, rows: Path, out: Path, count: int) -> Side:
    return lambda: spent(lambda: write(rows, out), count)


def write_dataset(rows: Path, out: Path) -> None:
    """Write the training set of a file of transactions, as boosting reads it."""
    examples = examples_between(handbook_history(rows), 0, sys.maxsize, steps=1)
    columns = {
        "card_token": pa.array(examples.card).cast(pa.string()),
        "event_time_ms": examples.event_time_ms,
        "amount_reference_minor": examples.amount_minor,
        "is_fraud": examples.is_fraud,
        **dict(zip(FEATURE_NAMES, feature_columns(examples.vectors), strict=True)),
        "sequence": sequence_column(examples.sequences),
    }
    schema = pa.schema([part_schema(steps=1).field(name) for name in columns])
    write_parquet(out, pa.table(columns, schema=schema))


def run_command(rows: Path, out: Path) -> None:
    """Write it by the command, in this process, into a folder that is not there yet."""
    shutil.rmtree(out, ignore_errors=True)
    make_dataset(Request(str(rows), HANDBOOK, "", 0, sys.maxsize, -1, 0, steps=1), out, 1)


def write_pandas(rows: Path, out: Path) -> None:
    """Write the same by pandas."""
    frame = pd.read_parquet(rows).rename(
        columns={
            "CUSTOMER_ID": "card",
            "TERMINAL_ID": "terminal",
            "TX_DATETIME": "time",
            "TX_AMOUNT": "amount",
            "TX_FRAUD": "is_fraud",
        }
    )
    frame["time"] = frame["time"].astype("datetime64[ns]")
    frame["is_fraud"] = frame["is_fraud"].astype(bool)
    frame["amount"] = frame["amount"].astype("float64")
    pandas_features(frame).to_parquet(out)
