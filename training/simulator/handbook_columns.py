"""The Handbook's columns of a Parquet file, checked: what is wrong is named by column and row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraudstream.errors import InvalidSettings
from fraudstream.features.history import Ints
from fraudstream.transaction.limits import TIMES_MS

COLUMNS: Final = (
    "TRANSACTION_ID",
    "TX_DATETIME",
    "CUSTOMER_ID",
    "TERMINAL_ID",
    "TX_AMOUNT",
    "TX_FRAUD",
)
LARGEST_EUROS: Final = 10**11  # as ingest takes them
_IDS: Final = ("TRANSACTION_ID", "CUSTOMER_ID", "TERMINAL_ID")


@dataclass(frozen=True, slots=True)
class HandbookRows:
    """Rows of a file in the order of their ids, which is that of their arrival.

    Attributes:
        transaction_id: int64 [N].
        event_ms: int64 [N], epoch milliseconds; a time without a zone is taken as UTC.
        utc_offset: int64 [N], minutes east of UTC of a column with a zone; 0 without.
        card: int64 [N], number of each customer, in the order of their ids.
        terminal_id: int64 [N].
        amount_minor: int64 [N].
        is_fraud: bool [N].
    """

    transaction_id: Ints
    event_ms: Ints
    utc_offset: Ints
    card: Ints
    terminal_id: Ints
    amount_minor: Ints
    is_fraud: NDArray[np.bool_]


def read_handbook(path: Path) -> HandbookRows:
    """Read a file with the Handbook's columns.

    Raises:
        InvalidSettings: It is missing, lacks a column, or holds a value that cannot be.
    """
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
    except (OSError, ValueError) as exc:
        msg = f"{path}: expected a Parquet file with the columns {sorted(COLUMNS)}"
        hint = "fraudstream training dataset makes a training set of other files"
        raise InvalidSettings(f"{msg}; {hint}") from exc
    found = _Checked(path, table)
    for name in _IDS:
        found.refuse(name, found.is_missing(name), "an id")
    ids = found.cast("TRANSACTION_ID", pa.int64(), "a whole number").to_numpy()
    order = np.argsort(ids, kind="stable")
    times = found.times()
    _, card = np.unique(found.column("CUSTOMER_ID").to_numpy(False), return_inverse=True)
    return HandbookRows(
        transaction_id=ids[order],
        event_ms=times.cast(pa.int64()).to_numpy()[order],
        utc_offset=utc_offsets(times).to_numpy()[order],
        card=card.astype(np.int64)[order],
        terminal_id=found.cast("TERMINAL_ID", pa.int64(), "a whole number").to_numpy()[order],
        amount_minor=found.amounts()[order],
        is_fraud=found.flags("TX_FRAUD")[order],
    )


def utc_offsets(times: pa.TimestampArray) -> pa.Int64Array:
    """Return how far local clocks are east of UTC, minutes, by the zone of a column; 0 without.

    >>> noon = pa.array([1_530_446_400_000], pa.timestamp("ms", tz="Europe/Brussels"))
    >>> utc_offsets(noon).to_pylist()
    [120]
    """
    if times.type.tz is None:
        return pa.repeat(pa.scalar(0, pa.int64()), len(times))
    local = pc.local_timestamp(times).cast(pa.timestamp("ms")).cast(pa.int64())
    utc = times.cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64())
    return pc.divide(pc.subtract(local, utc), 60_000)


@dataclass(frozen=True, slots=True)
class _Checked:
    """A table that says what is wrong with it."""

    path: Path
    table: pa.Table

    def column(self, name: str) -> pa.Array:
        return self.table[name].combine_chunks()

    def is_missing(self, name: str) -> NDArray[np.bool_]:
        """Return which values are null or NaN, as pandas writes a missing id."""
        missing: NDArray[np.bool_] = pc.is_null(self.column(name), nan_is_null=True).to_numpy(False)
        return missing

    def refuse(self, name: str, bad: NDArray[np.bool_], expected: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            value = self.table[name][row].as_py()
            found = "nothing" if value is None else repr(value)
            msg = f"column {name}, row {row} (the first is 0): expected {expected}, found {found}"
            raise InvalidSettings(f"{self.path}: {msg}")

    def cast(self, name: str, kind: pa.DataType, expected: str, *, safe: bool = True) -> pa.Array:
        try:
            return self.column(name).cast(kind, safe=safe)
        except pa.ArrowException as exc:
            msg = f"{self.path}: column {name}: expected {expected} in each row: {exc}"
            raise InvalidSettings(msg) from exc

    def times(self) -> pa.TimestampArray:
        name, expected = "TX_DATETIME", "a time between the years 2000 and 2100"
        self.refuse(name, self.is_missing(name), expected)
        zone = getattr(self.table[name].type, "tz", None)
        times = self.cast(name, pa.timestamp("ms", tz=zone), expected, safe=False)
        event_ms = times.cast(pa.int64()).to_numpy()
        is_outside = (event_ms < TIMES_MS.start) | (event_ms >= TIMES_MS.stop)
        self.refuse(name, is_outside, expected)
        return times

    def amounts(self) -> Ints:
        name, expected = "TX_AMOUNT", f"an amount, 0 to {LARGEST_EUROS}"
        self.refuse(name, self.is_missing(name), expected)
        euros = self.cast(name, pa.float64(), expected, safe=False).to_numpy()
        self.refuse(name, ~((euros >= 0) & (euros <= LARGEST_EUROS)), expected)
        return np.asarray(np.round(euros * 100), np.int64)

    def flags(self, name: str) -> NDArray[np.bool_]:
        self.refuse(name, self.is_missing(name), "0 or 1")
        flags = self.cast(name, pa.float64(), "0 or 1", safe=False).to_numpy()
        self.refuse(name, (flags != 0) & (flags != 1), "0 or 1")
        return np.asarray(flags == 1)
