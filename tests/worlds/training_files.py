"""Simulated histories as canonical files and as logs, for the tests of training sets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.archive.batches import LogRows, accepted_batch, decision_batch, label_batch
from fraudstream.archive.files import file_path
from fraudstream.features.stored_values import SHARED_FIELDS
from fraudstream.topics import partition_of
from fraudstream.transaction.identity import digest_of
from fraudstream.v1.decision_pb2 import Decision
from fraudstream.v1.label_pb2 import Disposition, Label
from fraudstream.v1.transaction_pb2 import Transaction
from training.dataset import Examples
from training.offline.load import load_dataset
from training.offline.plan import Request
from training.simulator.messages import transaction_of
from training.simulator.simulate import Simulated

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
    for number, chunk in enumerate(np.array_split(places, files)):
        pq.write_table(table.take(chunk), folder / f"{number}.parquet", row_group_size=700)
    return folder


Stamped = tuple[int, Transaction | Decision | Label]


@dataclass
class Logs:
    """What the topics hold of a history: by noun and partition, times and messages in order.

    Some transactions come twice, some after a copy with another amount that was not decided; half
    of them have a decision, some a second one that says something else.

    Args:
        simulated: The history.
        partitions: Of each topic.
    """

    simulated: Simulated
    partitions: int
    rows: dict[str, list[list[Stamped]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Lay the messages out."""
        nouns = ("accepted", "decisions", "labels")
        self.rows = {noun: [[] for _ in range(self.partitions)] for noun in nouns}
        transactions = simulated_transactions(self.simulated)
        for number, transaction in enumerate(transactions):
            self._add_transaction(number, transaction)
        arrival = self.simulated.label_arrival_ms
        for number in np.argsort(arrival, kind="stable").tolist():
            if arrival[number] >= 0:
                self._add("labels", int(arrival[number]), label_of(transactions[number]))

    def _add_transaction(self, number: int, transaction: Transaction) -> None:
        at_ms = transaction.event_time_ms
        other = Transaction()
        other.CopyFrom(transaction)
        other.amount_minor += 1
        other.amount_reference_minor += 1_000
        is_preceded = number % 34 == 0
        if is_preceded:
            self._add("accepted", at_ms, other)
        self._add("accepted", at_ms, transaction)
        if number % 10 == 0:
            self._add("accepted", at_ms, transaction)
        if number % 2 == 0:
            self._add("decisions", at_ms, decision_of(transaction))
        if number % 6 == 0:
            self._add("decisions", at_ms, decision_of(other))

    def _add(self, noun: str, at_ms: int, message: Transaction | Decision | Label) -> None:
        partition = partition_of(message.card_token.encode(), self.partitions)
        self.rows[noun][partition].append((at_ms, message))

    def count(self, noun: str) -> int:
        """Return how many records a topic has."""
        return sum(map(len, self.rows[noun]))

    def write_archive(self, root: Path) -> Path:
        """Write the logs as the archive's files, two for each partition."""
        for noun, batch_of in _BATCHES.items():
            for partition, stamped in enumerate(self.rows[noun]):
                half = len(stamped) // 2
                for begin, end in ((0, half), (half, len(stamped))):
                    if end > begin:
                        _write_archived(root / noun, batch_of, partition, stamped[begin:end], begin)
        return root


_BATCHES: dict[str, Callable[..., pa.RecordBatch]] = {
    "accepted": accepted_batch,
    "decisions": decision_batch,
    "labels": label_batch,
}


def _write_archived(
    folder: Path,
    batch_of: Callable[..., pa.RecordBatch],
    partition: int,
    stamped: list[Stamped],
    first: int,
) -> None:
    times = [at_ms for at_ms, _ in stamped]
    rows = LogRows(partition, range(first, first + len(stamped)), times)
    day = datetime.fromtimestamp(times[0] / 1_000, UTC).date()
    path = file_path(folder, "0a", day, (partition, first, first + len(stamped) - 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(batch_of([message for _, message in stamped], rows)), path)


def decision_of(transaction: Transaction) -> Decision:
    """Return a decision about a transaction."""
    return Decision(
        bank_id=transaction.bank_id,
        transaction_id=transaction.transaction_id,
        card_token=transaction.card_token,
        digest=digest_of(transaction),
        event_time_ms=transaction.event_time_ms,
    )


def label_of(transaction: Transaction) -> Label:
    """Return the label of a fraud, with the entities of its transaction."""
    names = ("bank_id", "transaction_id", "card_token", "event_time_ms", *SHARED_FIELDS)
    fields = {name: getattr(transaction, name) for name in names}
    return Label(**fields, disposition=Disposition.DISPOSITION_CONFIRMED_FRAUD)


def assert_same_by_id(folder: Path, expected: Examples) -> None:
    """Compare a set with examples of the same history, whatever order rows of one moment have."""
    files = sorted(folder.glob("part-*.parquet"))
    ids = pa.concat_tables([pq.read_table(file, columns=["transaction_id"]) for file in files])
    numbers = np.array([int(text.partition("-")[2]) for text in ids["transaction_id"].to_pylist()])
    found, order = load_dataset(folder), np.argsort(numbers)
    assert np.sort(numbers).tolist() == expected.row.tolist()
    for name in ("vectors", "sequences", "is_fraud", "event_time_ms", "amount_minor"):
        assert getattr(found, name)[order].tobytes() == getattr(expected, name).tobytes(), name


def set_request(source: Path, **changes: Any) -> Request:
    """Return a request for all of a canonical source, with settings changed."""
    return replace(Request(str(source), "canonical", "", 0, sys.maxsize, -1, 0), **changes)
