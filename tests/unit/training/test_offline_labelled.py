"""Which rows of a training set are learned from, calibrated on and tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.offline.labelled import LabelRule, RowLabels, Unlabelled

DAY_MS = 86_400_000
NOBODY, FRAUD, GENUINE, UNDETERMINED = 0, 1, 2, 3


def rule(unlabelled: Unlabelled, *, is_untimed_label: bool = True) -> LabelRule:
    """Return a rule of a set that knows what had arrived by the twentieth day."""
    return LabelRule(unlabelled, 7, 20 * DAY_MS, is_untimed_label)


def labels(*rows: tuple[int, int, int], by: LabelRule) -> RowLabels:
    """Return labels of rows given as disposition, arrival (days, -1: none) and event (days)."""
    disposition, arrival, event = np.array(rows).T
    arrival_ms = np.where(arrival < 0, -1, arrival * DAY_MS)
    return RowLabels(disposition.astype(np.int8), arrival_ms, event * DAY_MS, by)


@pytest.mark.parametrize("disposition", [NOBODY, UNDETERMINED])
def test_row_without_a_verdict_is_left_out_of_a_set_labelled_in_part(disposition: int) -> None:
    """Nobody said that it is genuine, so nothing may learn that it is."""
    found = labels((FRAUD, 3, 1), (disposition, -1, 1), by=rule(Unlabelled.LEAVE_OUT))

    assert found.is_known.tolist() == [True, False]


def test_row_that_nobody_labelled_matures_to_genuine_after_the_label_delay() -> None:
    """The stream's rule: seven days without a label, counted to what the set has seen."""
    found = labels((NOBODY, -1, 13), (NOBODY, -1, 14), by=rule(Unlabelled.GENUINE))

    assert found.is_known.tolist() == [True, False]


def test_labelled_rows_younger_than_the_label_delay_are_left_out_with_the_others() -> None:
    """Their frauds alone would be tested: the share of fraud would be that of the labelled."""
    found = labels((FRAUD, 19, 18), (NOBODY, -1, 18), by=rule(Unlabelled.GENUINE))

    assert not found.is_known.any()


def test_undetermined_row_never_matures() -> None:
    """Somebody looked and could not tell."""
    found = labels((UNDETERMINED, -1, 1), (NOBODY, -1, 1), by=rule(Unlabelled.GENUINE))

    assert found.is_known.tolist() == [False, True]


def test_set_in_which_every_row_says_what_it_is_has_no_immature_rows() -> None:
    """Its genuine rows need no time: the last day counts like the first."""
    found = labels((FRAUD, 27, 20), (GENUINE, -1, 20), by=rule(Unlabelled.GENUINE))

    assert found.is_known.all()


def test_genuine_row_without_a_time_is_unlabelled_where_others_have_one() -> None:
    """docs/data.md: an arrival of null is a row without a label."""
    rows = ((GENUINE, 3, 1), (GENUINE, -1, 1))
    told_apart = rule(Unlabelled.LEAVE_OUT, is_untimed_label=False)

    assert labels(*rows, by=told_apart).is_known.tolist() == [True, False]
    assert labels(*rows, by=replace(told_apart, is_untimed_label=True)).is_known.all()


def test_counts_name_every_row_once() -> None:
    """What is used and what is left out add up to the set."""
    rows = ((FRAUD, 3, 1), (GENUINE, 3, 1), (NOBODY, -1, 1), (UNDETERMINED, -1, 1), (FRAUD, 19, 18))
    found = labels(*rows, by=rule(Unlabelled.GENUINE)).counts()

    assert (found.fraud, found.genuine, found.matured) == (1, 1, 1)
    assert (found.undetermined, found.unlabelled, found.immature) == (1, 0, 1)
