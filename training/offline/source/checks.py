"""Columns of a source, checked: what is wrong is named by file, column and row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraudstream.archive.columns import ENUM_COLUMNS
from fraudstream.errors import InvalidSettings
from training.offline.names import Distinct

YEAR_2000_MS: Final = 946_684_800_000
YEAR_9999_MS: Final = 253_402_300_800_000
LARGEST_AMOUNT: Final = 10**13  # reference minor units, as ingest takes them
_TIMES: Final = (YEAR_2000_MS, YEAR_9999_MS, "epoch milliseconds from the year 2000 on")


@dataclass(frozen=True, slots=True)
class Columns:
    """Some rows of a source by column.

    Attributes:
        batch: The rows.
        name: Of the file or topic.
        first: Place of the first in the whole source.
        row_of_first: Its row number in the file, from 0.
        dropped: bool [N], rows that were refused and are left out; None where one ends the run.
        sources: Names in the file of columns that are called otherwise there.
    """

    batch: pa.RecordBatch
    name: str
    first: int
    row_of_first: int
    dropped: NDArray[np.bool_] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.batch.num_rows)

    def has(self, name: str) -> bool:
        """Return whether there is such a column."""
        return name in self.batch.schema.names

    def refuse(self, name: str, bad: NDArray[np.bool_], expected: str) -> None:
        """Raise where a row is bad, and say which is the first.

        Raises:
            InvalidSettings: There is one.
        """
        if self.dropped is not None:
            self.dropped[bad] = True
            return
        if not bad.any():
            return
        index = int(np.argmax(bad))
        found = self.batch[name][index].as_py()
        msg = (
            f"{self.name}: column {self.source_of(name)}, row {self.row_of_first + index} (the"
            f" first is 0):"
            f" expected {expected}, found {'nothing' if found is None else repr(found)}"
        )
        raise InvalidSettings(msg)

    def source_of(self, name: str) -> str:
        """Return what a column is called in the file."""
        return self.sources.get(name, name)

    def texts(self, name: str, default: str = "") -> pa.StringArray:
        """Return a column of texts; `default` where it is null or there is none."""
        if not self.has(name):
            return pa.repeat(pa.scalar(default, pa.string()), len(self))
        return pc.fill_null(self.batch[name].cast(pa.string()), default)

    def needed_texts(self, name: str) -> pa.StringArray:
        """Return a column of texts that must all be there."""
        texts = self.texts(name)
        self.refuse(name, _mask(pc.equal(texts, "")), "a text")
        return texts

    def wholes(
        self, name: str, bounds: tuple[int, int, str], default: int | NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """Return a column of whole numbers, int64 [N].

        Args:
            name: Of the column.
            bounds: Smallest, the one after the largest, and what that means.
            default: What stands for null and for a missing column; None where neither may be.

        Raises:
            InvalidSettings: A number is missing or out of bounds.
        """
        if not self.has(name) and default is not None:
            return np.broadcast_to(np.asarray(default, np.int64), len(self)).copy()
        low, high, meaning = bounds
        column = self._whole_column(name, meaning)
        is_null = _mask(pc.is_null(column))
        numbers: NDArray[np.int64] = pc.fill_null(column, 0).to_numpy()
        is_outside = ((numbers < low) | (numbers >= high)) & ~is_null
        self.refuse(name, is_outside if default is not None else is_outside | is_null, meaning)
        return numbers if default is None else np.where(is_null, default, numbers)

    def _whole_column(self, name: str, meaning: str) -> pa.Int64Array:
        """Return a column as whole numbers; NaN is null, as pandas writes it."""
        column, kind = self.batch[name], self.batch[name].type
        if pa.types.is_floating(kind):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
            is_part = pc.fill_null(pc.not_equal(pc.floor(column), column), fill_value=False)
            self.refuse(name, _mask(is_part), meaning)
            return pc.floor(column).cast(pa.int64())
        if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            self.refuse(name, _mask(pc.is_valid(column)), meaning)
            return pa.nulls(len(self), pa.int64())
        return column.cast(pa.int64())

    def times(self, name: str, default: NDArray[np.int64] | int | None) -> NDArray[np.int64]:
        """Return a column of times, epoch milliseconds, int64 [N]."""
        return self.wholes(name, _TIMES, default)

    def numbers(self, name: str, expected: str, largest: float) -> NDArray[np.float64]:
        """Return a column of numbers from -largest to largest, NaN for null; float64 [N]."""
        if not self.has(name):
            return np.full(len(self), np.nan)
        is_null = _mask(pc.is_null(self.batch[name]))
        found = self.batch[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            self.refuse(name, ~is_null & ~(np.abs(found) <= largest), expected)
        return np.asarray(found, np.float64)

    def enum(self, name: str, default: int) -> NDArray[np.int8]:
        """Return an enum column's numbers, int8 [N]."""
        names = ENUM_COLUMNS[name]
        number_of = {text: number for number, text in names.items()} | {"": default}
        found = self.mapped(name, lambda text: number_of.get(text, NOT_KNOWN))
        self.refuse(name, found == NOT_KNOWN, f"one of {', '.join(names.values())}")
        return found.astype(np.int8)

    def mapped(self, name: str, number_of: Callable[[str], int]) -> NDArray[np.int64]:
        """Return a number for each text of a column, int64 [N]; each text is asked for once."""
        if not self.has(name):
            return np.full(len(self), number_of(""), np.int64)
        return Distinct.of(self.texts(name)).numbers(number_of, np.int64)


NOT_KNOWN: Final = -1


def _mask(found: pa.BooleanArray) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return mask
