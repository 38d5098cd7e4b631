"""Canonical Parquet files of simulated histories, for the tests of training sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.canonical_batches import LogRows, accepted_batch
from fraudstream.v1.transaction_pb2 import Transaction
from training.messages import transaction_of
from training.simulate import Simulated

LOG_COLUMNS = ["log_partition", "log_offset"]


def simulated_transactions(simulated: Simulated) -> list[Transaction]:
    """Return a history's rows as ingest hands them on."""
    messages = []
    for number, row in enumerate(simulated.rows):
        message = transaction_of(row, 1, number)
        message.card_token = f"{message.bank_id}.k1.{int(row['card']):032x}"
        message.amount_reference_minor = int(row["amount_reference_minor"])
        messages.append(message)
    return messages


def transactions_table(
    transactions: Sequence[Transaction], label_arrival_ms: np.ndarray | None = None
) -> pa.Table:
    """Return transactions as canonical columns without a log, with labels of their own if given."""
    times = [transaction.event_time_ms for transaction in transactions]
    rows = LogRows(0, range(len(transactions)), times)
    table = pa.table(accepted_batch(transactions, rows)).drop_columns(LOG_COLUMNS)
    if label_arrival_ms is None:
        return table
    arrival = pa.array(label_arrival_ms, mask=label_arrival_ms < 0)
    return table.append_column("is_fraud", arrival.is_valid()).append_column(
        "label_arrival_time_ms", arrival
    )


def labels_table(transactions: Sequence[Transaction], label_arrival_ms: np.ndarray) -> pa.Table:
    """Return a label file: the id of each fraud and when it became known, nothing else."""
    known = [
        (t, ms) for t, ms in zip(transactions, label_arrival_ms.tolist(), strict=True) if ms >= 0
    ]
    return pa.table(
        {
            "bank_id": [t.bank_id for t, _ in known],
            "card_token": [t.card_token for t, _ in known],
            "transaction_id": [t.transaction_id for t, _ in known],
            "disposition": ["confirmed_fraud"] * len(known),
            "arrival_time_ms": pa.array([ms for _, ms in known], pa.int64()),
        }
    )


def write_shuffled(folder: Path, table: pa.Table, files: int, seed: int) -> Path:
    """Write a table's rows in no order to several files, in small row groups."""
    folder.mkdir()
    places = np.random.default_rng(seed).permutation(table.num_rows)
    for number, lot in enumerate(np.array_split(places, files)):
        pq.write_table(table.take(lot), folder / f"{number}.parquet", row_group_size=700)
    return folder
