"""The Handbook's training set: ours against the same features by pandas, per row.

Both begin with a Parquet file of transactions and end with one of features. Ours takes a fifth of
the cards and all features and sequences; pandas takes fewer cards, since its windows take minutes
on the whole, and what it can express. Costs are per row: more rows would favour ours, whose fixed
costs spread, and terminals with more rows would cost pandas more.
"""

from __future__ import annotations

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
from training.offline.parts import feature_columns, sequence_column, write_parquet

CARDS: Final = 1_000
PANDAS_CARDS: Final = 200

# Reads a file of transactions and writes one of features.
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
        """Write each side's share of the transactions, and run each once."""
        warm_up()
        plan.folder.mkdir(parents=True, exist_ok=True)
        sides: dict[str, Side] = {}
        for name, write, cards in (
            ("ours", write_dataset, CARDS),
            ("pandas", write_pandas, PANDAS_CARDS),
        ):
            rows, out = plan.folder / f"{name}.parquet", plan.folder / f"{name}-features.parquet"
            count = write_cards(self._machine, plan.rows(cards, 5), rows)
            sides[name] = _side(write, rows, out, count)
            sides[name]()
        yield sides

    def values(self, measured: Round) -> dict[str, float]:
        """Return the ratio of one round, with what each side spent on a row."""
        ratio = measured["pandas"]["cpu_us"] / measured["ours"]["cpu_us"]
        wall = measured["pandas"]["wall_us"] / measured["ours"]["wall_us"]
        return {"dataset_vs_pandas": ratio, "wall ratio": wall, **beside(dict(measured))}


def _side(write: Writer, rows: Path, out: Path, count: int) -> Side:
    return lambda: spent(lambda: write(rows, out), count)


def write_dataset(rows: Path, out: Path) -> None:
    """Write the training set of a file of transactions, as boosting reads it."""
    examples = examples_between(handbook_history(rows), 0, sys.maxsize, steps=1)
    columns = {
        "card": examples.card,
        "event_time_ms": examples.event_time_ms,
        **dict(zip(FEATURE_NAMES, feature_columns(examples.vectors), strict=True)),
        "sequence": sequence_column(examples.sequences.reshape(len(examples), -1)),
        "is_fraud": examples.is_fraud,
    }
    fields = [
        pa.field(name, pa.array(column[:0]).type, nullable=False)
        for name, column in columns.items()
    ]
    write_parquet(out, pa.table(columns, schema=pa.schema(fields)))


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
