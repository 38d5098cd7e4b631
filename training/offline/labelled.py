"""Which rows of a training set have a label, and what those without one count as.

A row is labelled fraud or genuine, or somebody looked and could not tell (undetermined), or nobody
labelled it. On the stream a transaction that nobody labelled matures to genuine when the label
delay is over. A file of one's own may be labelled in part: then a missing label says nothing.
K rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.offline.plan import Request
from training.offline.stages.row_classes import CONFIRMED, LABELLED_GENUINE, UNDETERMINED
from training.offline.work import Summary

_DAY_MS: Final = 86_400_000
LABEL_DELAY_DAYS: Final = 7

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Unlabelled(StrEnum):
    """What rows that nobody labelled count as."""

    LEAVE_OUT = "leave-out"
    GENUINE = "genuine"


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How a set's labels are read.

    Attributes:
        unlabelled: What rows that nobody labelled count as.
        delay_days: After which an unlabelled row counts as genuine.
        as_of_ms: What had arrived by then is in the set.
        is_untimed_label: Whether a row that says it is genuine, but not since when, has a label.
    """

    unlabelled: Unlabelled
    delay_days: int
    as_of_ms: int
    is_untimed_label: bool

    @property
    def mature_ms(self) -> int:
        """Return the event time up to which labels have had their time."""
        return self.as_of_ms - self.delay_days * _DAY_MS


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How many rows are labelled how. Only `fraud`, `genuine` and `matured` ones count."""

    fraud: int
    genuine: int
    matured: int
    undetermined: int
    unlabelled: int
    immature: int

    def text(self) -> str:
        """Return the counts in words."""
        used = self.fraud + self.genuine + self.matured
        left = self.undetermined + self.unlabelled + self.immature
        return (
            f"{used:,} rows count: {self.fraud:,} labelled fraud, {self.genuine:,} labelled"
            f" genuine, {self.matured:,} that nobody labelled within the label delay; {left:,} are"
            f" left out: {self.unlabelled:,} unlabelled, {self.undetermined:,} undetermined,"
            f" {self.immature:,} younger than the label delay"
        )


@dataclass(frozen=True, slots=True)
class RowLabels:
    """What is known of each row of a set.

    Attributes:
        disposition: int8 [K], number of `Disposition`, 0 where nobody labelled the row.
        arrival_ms: int64 [K], when the label arrived, -1 where nobody says.
        event_time_ms: int64 [K].
        rule: How they are read.
    """

    disposition: NDArray[np.int8]
    arrival_ms: Ints
    event_time_ms: Ints
    rule: LabelRule

    @property
    def is_unlabelled(self) -> Mask:
        """Return which rows nobody labelled."""
        found = self.disposition == 0
        if self.rule.is_untimed_label:
            return np.asarray(found)
        is_untimed = (self.disposition == LABELLED_GENUINE) & (self.arrival_ms < 0)
        return np.asarray(found | is_untimed)

    @property
    def is_immature(self) -> Mask:
        """Return which rows are too young to be genuine by the absence of a label.

        Their frauds are known by half: the labelled ones are left out with them.
        """
        if self.rule.unlabelled is Unlabelled.LEAVE_OUT or not self.is_unlabelled.any():
            return np.zeros(len(self.disposition), np.bool_)
        return np.asarray(self.event_time_ms > self.rule.mature_ms)

    @property
    def is_known(self) -> Mask:
        """Return which rows are learned from and tested on."""
        known = (self.disposition != UNDETERMINED) & ~self.is_immature
        if self.rule.unlabelled is Unlabelled.LEAVE_OUT:
            known &= ~self.is_unlabelled
        return np.asarray(known)

    def known_since_ms(self) -> Ints:
        """Return when each row's label was known; one without a time as late as any may be."""
        late = self.event_time_ms + self.rule.delay_days * _DAY_MS
        return np.where(self.arrival_ms < 0, late, self.arrival_ms)

    def counts(self) -> LabelCounts:
        """Return how many rows are labelled how."""
        known, unlabelled = self.is_known, self.is_unlabelled
        left = ~known & ~self.is_immature
        doubted = left & (self.disposition == UNDETERMINED)
        masks = {
            "fraud": known & (self.disposition == CONFIRMED),
            "genuine": known & (self.disposition == LABELLED_GENUINE) & ~unlabelled,
            "matured": known & unlabelled,
            "undetermined": doubted,
            "unlabelled": left & ~doubted,
            "immature": self.is_immature,
        }
        return LabelCounts(**{name: int(mask.sum()) for name, mask in masks.items()})


def describe_labels(made: Summary, request: Request) -> dict[str, Any]:
    """Return what `_dataset.json` says of labels.

    Kafka's log and the archive have the stream's labels: what nobody labelled is genuine. A file
    of one's own that labels rows as genuine, or leaves `is_fraud` empty in some, says thereby that
    the others are unlabelled; one that labels frauds alone says that the others are genuine.
    """
    counts = made["counts"]
    has_gaps = 0 < counts["without_is_fraud"] < counts["wanted"]
    is_partial = request.is_own and (has_gaps or counts["genuine"] > 0)
    until_ms = request.labels_until_ms
    as_of_ms = made["as_of_ms"] if until_ms < 0 else min(until_ms, made["as_of_ms"])
    return {
        "unlabelled": Unlabelled.LEAVE_OUT if is_partial else Unlabelled.GENUINE,
        "as_of_ms": as_of_ms,
        "is_untimed_label": has_gaps or not counts["genuine"],
    }


def rule_of(
    described: Mapping[str, Any], unlabelled: Unlabelled | None, delay_days: int
) -> LabelRule:
    """Return how labels are read: as the set says, unless `unlabelled` says otherwise."""
    return LabelRule(
        unlabelled=unlabelled or Unlabelled(described["unlabelled"]),
        delay_days=delay_days,
        as_of_ms=int(described["as_of_ms"]),
        is_untimed_label=bool(described["is_untimed_label"]),
    )
