"""Folds of the two protocols: what each learns from, and the later rows that it is tested on.

`handbook` is the book's: a week, a week of delay, a test week without cards known as compromised.
`platform` is how a bank would run it: all labelled history, with the labels known on the day, and
all cards. Nothing is ever split but by time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from fraudstream.errors import InvalidSettings
from training.dataset import Examples
from training.evaluation.material import Material
from training.metrics import DAY_MS, Bools, Fold, Ints
from training.train.slices import PAST_DAYS, Slices, fold_slices

_HANDBOOK_FOLDS: Final = 4
# Begin of the first training week: of the book's four test folds, and of those before them.
_FIRST_WEEK: Final = {"test": (2018, 7, 25), "validation": (2018, 6, 20)}
_LATE_DAYS: Final = 7  # of the labelled history, for stopping and for calibrating each, at most


@dataclass(frozen=True, slots=True)
class TestedFold:
    """One fold, ready to be learned from and tested.

    Attributes:
        name: First day of the test, ISO 8601.
        slices: What to learn from and to test on.
        tested: int64 [N], indices of the tested rows in the material.
        trained: bool [K], which rows of the material are learned from.
    """

    name: str
    slices: Slices
    tested: Ints
    trained: Bools


@dataclass(frozen=True, slots=True)
class PlatformPlan:
    """How the platform protocol cuts a history.

    Attributes:
        folds: Test windows, one after another, the last at the end of the history.
        test_days: Length of each.
        delay_days: Days before a test window that are not learned from: not labelled yet.
        warm_days: First days, which only fill the windows of the features.
        until_ms: End of the last test window; 0 for the end of the history.
    """

    folds: int = 4
    test_days: int = 7
    delay_days: int = 7
    warm_days: int = 30
    until_ms: int = 0


def handbook_folds(which: str) -> list[Fold]:
    """Return the book's folds of a set: `test` or `validation`.

    >>> len(handbook_folds("test"))
    4
    """
    begin = datetime(*_FIRST_WEEK[which], tzinfo=UTC)
    first_ms = int(begin.timestamp() * 1_000)
    return [Fold(first_ms + 7 * number * DAY_MS) for number in range(_HANDBOOK_FOLDS)]


def cut_handbook(material: Material, folds: list[Fold]) -> Iterator[TestedFold]:
    """Yield the book's folds of some material."""
    for fold in folds:
        kept = material.examples.between(handbook_begin_ms(fold), fold.test_until_ms)
        yield _tested(material, fold.test_from_ms, fold_slices(kept, fold))


def handbook_begin_ms(fold: Fold) -> int:
    """Return where the rows of a fold begin: some weeks before it are for pre-training."""
    return fold.train_from_ms - PAST_DAYS * DAY_MS


def platform_starts(material: Material, plan: PlatformPlan, which: str) -> list[int]:
    """Return when each test window begins, epoch milliseconds.

    Args:
        material: The rows.
        plan: How to cut them.
        which: `test`, or `validation` for as many windows that end where the first of those begins.

    Raises:
        InvalidSettings: The history is too short for so many folds.
    """
    event_ms = material.examples.event_time_ms
    if not len(event_ms):
        raise InvalidSettings(f"{material.name}: expected transactions, found none")
    end_ms = plan.until_ms or -(-int(event_ms.max()) // DAY_MS) * DAY_MS
    span_ms = plan.folds * plan.test_days * DAY_MS
    if which == "validation":
        end_ms -= span_ms
    first_ms = end_ms - span_ms
    labelled_days = (first_ms - _learn_from(material, plan)) / DAY_MS - plan.delay_days
    if labelled_days < plan.test_days:
        msg = f"{material.name}: {plan.folds} folds leave {labelled_days:.0f} labelled days"
        msg += f" before the first, expected {plan.test_days} at least"
        raise InvalidSettings(f"{msg}; fewer --weeks, --warm-days or --delay-days leave more")
    return [first_ms + number * plan.test_days * DAY_MS for number in range(plan.folds)]


def cut_platform(material: Material, plan: PlatformPlan, starts: list[int]) -> Iterator[TestedFold]:
    """Yield folds that learn from all labelled history, as it was labelled when the test began."""
    for start_ms in starts:
        known = material.learned_at(start_ms)
        labelled_ms = start_ms - plan.delay_days * DAY_MS
        begin_ms = _learn_from(material, plan)
        learned, past = known.between(begin_ms, labelled_ms), known.between(0, begin_ms)
        test = material.examples.between(start_ms, start_ms + plan.test_days * DAY_MS)
        yield _tested(material, start_ms, _late_slices(learned, labelled_ms, test, past))


def check_fold(material: Material, fold: TestedFold) -> None:
    """Refuse a fold from which nothing can be learned, or on which nothing can be tested.

    Raises:
        InvalidSettings: It has no rows to test, or no frauds or no genuine rows to fit.
    """
    slices = fold.slices
    for name, part in (("fit", slices.fit), ("calibrate", slices.tune), ("test", slices.test)):
        if not len(part):
            msg = f"{material.name}: the fold of {fold.name} has no labelled rows to {name}"
            raise InvalidSettings(f"{msg}; fewer --weeks or another --until may help")
    frauds = int(slices.fit.is_fraud.sum())
    if not 0 < frauds < len(slices.fit):
        msg = f"{material.name}: expected frauds and genuine rows to fit before {fold.name}, found"
        raise InvalidSettings(f"{msg} {frauds} frauds in {len(slices.fit)} rows")


def _learn_from(material: Material, plan: PlatformPlan) -> int:
    first_ms = int(material.examples.event_time_ms.min())
    return first_ms // DAY_MS * DAY_MS + plan.warm_days * DAY_MS


def _late_slices(learned: Examples, until_ms: int, test: Examples, past: Examples) -> Slices:
    """Cut labelled history: its last days calibrate, those before stop, the rest fits."""
    begin_ms = int(learned.event_time_ms.min(initial=until_ms))
    late_ms = min(_LATE_DAYS * DAY_MS, round(0.2 * (until_ms - begin_ms)))
    return Slices(
        fit=learned.between(begin_ms, until_ms - 2 * late_ms),
        stop=learned.between(until_ms - 2 * late_ms, until_ms - late_ms),
        tune=learned.between(until_ms - late_ms, until_ms),
        test=test,
        whole=learned,
        past=past,
    )


def _tested(material: Material, start_ms: int, slices: Slices) -> TestedFold:
    day = datetime.fromtimestamp(start_ms / 1_000, UTC).date()
    row = material.examples.row
    return TestedFold(
        name=day.isoformat(),
        slices=slices,
        tested=_indices(row, slices.test.row),
        trained=_named(len(row), _indices(row, slices.whole.row)),
    )


def _indices(row: Ints, wanted: Ints) -> Ints:
    order = np.argsort(row, kind="stable")
    return order[np.searchsorted(row, wanted, sorter=order)]


def _named(count: int, indices: Ints) -> Bools:
    named = np.zeros(count, np.bool_)
    named[indices] = True
    return named
