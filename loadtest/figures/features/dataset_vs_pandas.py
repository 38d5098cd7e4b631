"""The Handbook's training set: ours against the same features by pandas, per row.

Both sides begin with the Parquet file of the same cards, a fifth of them all (pandas takes a minute
on the whole), and end with a Parquet file of features. Pandas computes what it can express, in
memory. Ours computes the whole catalogue and the row's own codes, in memory too. The sequences of
the network are left out, as pandas has none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa

from fraudstream.features.catalogue import FEATURE_NAMES
from fraudstream.features.warm_up import warm_up
from loadtest.bench.cpu import spent
from loadtest.bench.figure import Plan, Sides, experiment, ratio
from loadtest.figures.features.pandas_features import pandas_features
from loadtest.figures.handbook import lacking_for_handbook, write_cards
from loadtest.figures.table import figure
from training.dataset import examples_between
from training.offline.parts import feature_columns, part_schema, sequence_column, write_parquet
from training.simulator.histories import handbook_history

CARDS: Final = 1_000


@experiment(
    figure("dataset_vs_pandas", ratio("pandas", "ours")),
    needs=(lacking_for_handbook,),
)
def dataset_vs_pandas(plan: Plan) -> Iterator[Sides]:
    """Write the transactions of the cards, and the features of each to a file."""
    warm_up()
    plan.folder.mkdir(parents=True, exist_ok=True)
    rows = plan.folder / "rows.parquet"
    count = write_cards(plan.machine, plan.rows(CARDS, 5), rows)
    sides = {
        name: partial(spent, partial(write, rows, plan.folder / f"{name}-features"), count)
        for name, write in (("ours", write_dataset), ("pandas", write_pandas))
    }
    for side in sides.values():
        side()
    yield sides


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
