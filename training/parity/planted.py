"""Bugs to plant: each changes what the driver walks or what the kernel is told, for one run.

They show that the certificate finds what it is for. None touches the comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from fraudstream.features import card_kernel
from fraudstream.features.catalogue import Aggregation
from fraudstream.features.state import CARD_BUCKETS
from fraudstream.parity.rebuild import CardRows, EntityLog, Ints

_NTH: Final = 7  # of fifty rows; any one will do


@dataclass(frozen=True, slots=True)
class Bug:
    """No bug: the driver as it is. A planted one changes one of its steps.

    Attributes:
        name: How it is asked for.
        description: One line for people.
    """

    name: str = ""
    description: str = ""

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Hold the kernel wrong for a while."""
        yield

    def rows(self, walked: CardRows) -> CardRows:
        """Return the rows that the driver walks."""
        return walked

    def readers(self, log: EntityLog, after: Ints) -> Ints:
        """Return how many rows of a log each reader of it sees before it."""
        del log
        return after


class _OffByOneWindow(Bug):
    """The kernel is told one bucket more for every day window."""

    @contextmanager
    def planted(self) -> Iterator[None]:
        plan = card_kernel.CARD_PLAN
        spans = plan[:, 3].copy()
        is_count = plan[:, 1] <= Aggregation.RATIO_TO_MEAN
        short = np.array([CARD_BUCKETS[level] for level in plan[:, 2]]) > spans
        plan[is_count & short, 3] += 1
        try:
            yield
        finally:
            plan[:, 3] = spans


class _LabelLeak(Bug):
    """Every label is known to readers that came before it."""

    def readers(self, log: EntityLog, after: Ints) -> Ints:
        labels = np.flatnonzero(log.rows["kind"] == 0)
        return np.asarray(np.maximum(after, labels.max(initial=-1) + 1))


class _LostRow(Bug):
    """One row in fifty is not counted."""

    def rows(self, walked: CardRows) -> CardRows:
        return _taken(walked, np.flatnonzero(np.arange(len(walked.rows)) % 50 != _NTH))


class _DoubleRow(Bug):
    """One row in fifty counts twice."""

    def rows(self, walked: CardRows) -> CardRows:
        count = len(walked.rows)
        times = np.where(np.arange(count) % 50 == _NTH, 2, 1)
        return _taken(walked, np.repeat(np.arange(count), times))


class _WrongOrder(Bug):
    """Rows go by event time instead of by the log."""

    def rows(self, walked: CardRows) -> CardRows:
        order = np.argsort(walked.rows["event_ms"], kind="stable")
        return replace(_taken(walked, order), offsets=walked.offsets)


def _taken(walked: CardRows, at: np.ndarray[tuple[int], np.dtype[np.int64]]) -> CardRows:
    return CardRows(walked.rows[at], walked.state_of[at], walked.offsets[at], walked.indices[at])


NO_BUG: Final = Bug()
BUGS: Final = {
    bug.name: bug
    for bug in (
        _OffByOneWindow("off-by-one-window", "the kernel sums one bucket too many"),
        _LabelLeak("label-leak", "labels are known before they arrive"),
        _LostRow("lost-row", "one row in fifty is not counted"),
        _DoubleRow("double-row", "one row in fifty counts twice"),
        _WrongOrder("wrong-order", "rows go by event time, not by the log"),
    )
}
