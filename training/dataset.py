"""Training sets: a history from the simulator or a file, through the one kernel.

Axes: N rows of the history, K rows kept, F features, T steps, C channels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraudstream.errors import InvalidSettings
from fraudstream.features.history import History, replay_history
from fraudstream.features.state import hash_entity
from fraudstream.v1 import transaction_pb2 as pb
from training.messages import BANKS, bank_numbers, terminal_of
from training.simulate import Simulated

DAY_MS: Final = 86_400_000
HANDBOOK_BANK: Final = "handbook"
HANDBOOK_LABEL_DELAY_MS: Final = 7 * DAY_MS  # the book's delta_delay
_HANDBOOK_COLUMNS: Final = {
    "TRANSACTION_ID",
    "TX_DATETIME",
    "CUSTOMER_ID",
    "TERMINAL_ID",
    "TX_AMOUNT",
    "TX_FRAUD",
}


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows with their features and labels, in time order.

    Attributes:
        vectors: float32 [K, F].
        sequences: float32 [K, T, C].
        is_fraud: bool [K].
        event_time_ms: int64 [K].
        card: int64 [K].
        amount_minor: int64 [K], reference minor units.
        row: int64 [K], place of each in its history.
    """

    vectors: NDArray[np.float32]
    sequences: NDArray[np.float32]
    is_fraud: NDArray[np.bool_]
    event_time_ms: NDArray[np.int64]
    card: NDArray[np.int64]
    amount_minor: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.is_fraud)

    def between(self, from_ms: int, until_ms: int) -> Examples:
        """Return the examples with event time in [from, until)."""
        return self.where((self.event_time_ms >= from_ms) & (self.event_time_ms < until_ms))

    def where(self, kept: NDArray[np.bool_]) -> Examples:
        """Return the examples that a mask names."""
        return Examples(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})


def history_of(simulated: Simulated) -> History:
    """Return a simulated history as the kernel's driver reads it; every row arrives at once.

    Terminals are known by bank, as on the stream: each bank sees its own cards' traffic.
    """
    rows = simulated.rows
    bank = bank_numbers(rows["card"])
    pair = rows["terminal"] * len(BANKS) + bank
    pairs, terminal = np.unique(pair, return_inverse=True)
    hashes = [
        hash_entity(BANKS[int(code) % len(BANKS)], terminal_of(int(code) // len(BANKS)))
        for code in pairs
    ]
    return History(
        card=rows["card"].astype(np.int64),
        terminal=terminal.astype(np.int64),
        terminal_hash=np.array(hashes, np.uint64)[terminal],
        event_time_ms=rows["event_time_ms"].astype(np.int64),
        append_time_ms=rows["event_time_ms"].astype(np.int64),
        amount_reference_minor=rows["amount_reference_minor"].astype(np.int64),
        kind=rows["kind"].astype(np.int8),
        channel=rows["channel"].astype(np.int8),
        mcc=rows["mcc"].astype(np.int16),
        utc_offset_minutes=rows["utc_offset_minutes"].astype(np.int16),
        label_arrival_ms=simulated.label_arrival_ms,
        is_fraud=simulated.is_fraud,
    )


def handbook_history(path: Path) -> History:
    """Return the Handbook's transactions: local time as UTC, one card a customer, one bank.

    A fraud's label arrives 7 days after it. Card and terminal numbers are the file's own.

    Raises:
        InvalidSettings: The file is missing or lacks a column.
    """
    try:
        table = pq.read_table(path, columns=sorted(_HANDBOOK_COLUMNS))
    except (OSError, ValueError) as exc:
        msg = f"{path}: expected a Parquet file with the columns {sorted(_HANDBOOK_COLUMNS)}"
        raise InvalidSettings(msg) from exc
    column = {name: table[name].to_numpy() for name in _HANDBOOK_COLUMNS}
    order = np.argsort(column["TRANSACTION_ID"], kind="stable")
    column = {name: values[order] for name, values in column.items()}
    count = len(order)
    event_ms = column["TX_DATETIME"].astype("datetime64[ms]").astype(np.int64)
    terminal = column["TERMINAL_ID"].astype(np.int64)
    ids = np.arange(int(terminal.max(initial=0)) + 1)
    hashes = np.array([hash_entity(HANDBOOK_BANK, str(number)) for number in ids], np.uint64)
    is_fraud = column["TX_FRAUD"].astype(np.bool_)
    return History(
        card=column["CUSTOMER_ID"].astype(np.int64),
        terminal=terminal,
        terminal_hash=hashes[terminal],
        event_time_ms=event_ms,
        append_time_ms=event_ms,
        amount_reference_minor=np.round(column["TX_AMOUNT"].astype(np.float64) * 100).astype(
            np.int64
        ),
        kind=np.full(count, pb.TRANSACTION_KIND_PURCHASE, np.int8),
        channel=np.full(count, pb.CHANNEL_POS, np.int8),
        mcc=np.zeros(count, np.int16),
        utc_offset_minutes=np.zeros(count, np.int16),
        label_arrival_ms=np.where(is_fraud, event_ms + HANDBOOK_LABEL_DELAY_MS, -1),
        is_fraud=is_fraud,
    )


def examples_between(history: History, from_ms: int, until_ms: int) -> Examples:
    """Replay a whole history and return the rows with event time in [from, until)."""
    wanted = (history.event_time_ms >= from_ms) & (history.event_time_ms < until_ms)
    replayed = replay_history(history, wanted)
    return Examples(
        vectors=replayed.vectors,
        sequences=replayed.sequences,
        is_fraud=history.is_fraud[wanted],
        event_time_ms=history.event_time_ms[wanted],
        card=history.card[wanted],
        amount_minor=history.amount_reference_minor[wanted],
        row=np.flatnonzero(wanted),
    )


def content_hash(examples: Examples) -> str:
    """Return SHA-256 over all that a model learned from, hexadecimal."""
    digest = hashlib.sha256()
    for field in fields(examples):
        digest.update(np.ascontiguousarray(getattr(examples, field.name)).tobytes())
    return digest.hexdigest()
