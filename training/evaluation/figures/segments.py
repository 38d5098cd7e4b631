"""For whom a model works: figures by segment, and the ratio of the worst to all.

A *trait* divides rows into segments. Recall and false-positive rate are those of one threshold for
all, as it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.metrics import Bools, Floats

RECALL, FPR, CALIBRATION = "recall", "FPR", "calibration"
FLAG_RATIO: Final = 1.25
# A recall from fewer frauds is off by a tenth by chance alone: sqrt(0.7 * 0.3 / 30) = 0.08.
THIN_FRAUDS: Final = 30
# With fewer false alerts to be expected one more or less moves the rate by a quarter and more.
THIN_FALSE_ALERTS: Final = 5


@dataclass(frozen=True, slots=True)
class Trait:
    """What divides rows into segments.

    Attributes:
        name: Of the trait, for people.
        labels: Of its segments.
        segment: int16 [N], number of each row's segment.
    """

    name: str
    labels: tuple[str, ...]
    segment: NDArray[np.int16]

    def where(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> Trait:
        """Return the trait of the rows that a mask or indices name."""
        return Trait(self.name, self.labels, self.segment[kept])


@dataclass(frozen=True, slots=True)
class SegmentFigures:
    """How a model does on one segment. NaN where there is nothing to measure.

    Attributes:
        trait: What divides the rows.
        label: Which segment.
        rows: How many.
        frauds: How many of them are fraud.
        alerts: How many are flagged.
        recall: Flagged among the frauds.
        fpr: Flagged among the genuine rows.
        in_the_large: Mean score / fraud share.
        expected_false_alerts: How many it would have at the false-positive rate of all rows.
        recall_ratio: Recall of all rows / this one.
        fpr_ratio: This false-positive rate / that of all rows.
        calibration_ratio: How far `in_the_large` is from that of all rows, either way; at least 1.
    """

    trait: str
    label: str
    rows: int
    frauds: int
    alerts: int
    recall: float
    fpr: float
    in_the_large: float
    expected_false_alerts: float = 0.0
    recall_ratio: float = 1.0
    fpr_ratio: float = 1.0
    calibration_ratio: float = 1.0

    @property
    def flags(self) -> tuple[str, ...]:
        """Return which measures have a ratio over 1.25 and enough rows for it to mean something."""
        return tuple(
            name
            for name, ratio_of in MEASURES.items()
            if ratio_of(self) > FLAG_RATIO and not self.is_thin(name)
        )

    def is_thin(self, measure: str) -> bool:
        """Whether it has too few rows for a measure to mean much."""
        if measure == FPR:
            return self.expected_false_alerts < THIN_FALSE_ALERTS
        return self.frauds < THIN_FRAUDS


MEASURES: Final[dict[str, Callable[[SegmentFigures], float]]] = {
    RECALL: lambda found: found.recall_ratio,
    FPR: lambda found: found.fpr_ratio,
    CALIBRATION: lambda found: found.calibration_ratio,
}


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst segment of a trait against all rows, of those with enough rows to tell.

    Attributes:
        trait: What divides the rows.
        measure: `recall`, `FPR` or `calibration`.
        label: Which segment is worst.
        ratio: Against all rows; over 1.25 is flagged.
    """

    trait: str
    measure: str
    label: str
    ratio: float

    @property
    def is_flagged(self) -> bool:
        """Whether the ratio is over 1.25."""
        return self.ratio > FLAG_RATIO


def measure_segments(
    score: Floats, flagged: Bools, is_fraud: Bools, traits: Sequence[Trait]
) -> list[SegmentFigures]:
    """Return the figures of each segment that has rows, in the order of the traits.

    Args:
        score: float64 [N], calibrated.
        flagged: bool [N], what the threshold flags.
        is_fraud: bool [N].
        traits: Of the same rows.
    """
    everyone = _measure("", "", score, flagged, is_fraud)
    return [
        _compared(
            _measure(trait.name, label, score[inside], flagged[inside], is_fraud[inside]), everyone
        )
        for trait in traits
        for number, label in enumerate(trait.labels)
        if (inside := trait.segment == number).any()
    ]


def _measure(
    trait: str, label: str, score: Floats, flagged: Bools, is_fraud: Bools
) -> SegmentFigures:
    frauds, rows = int(is_fraud.sum()), len(is_fraud)
    return SegmentFigures(
        trait=trait,
        label=label,
        rows=rows,
        frauds=frauds,
        alerts=int(flagged.sum()),
        recall=_ratio(float((flagged & is_fraud).sum()), frauds),
        fpr=_ratio(float((flagged & ~is_fraud).sum()), rows - frauds),
        in_the_large=_ratio(float(score.sum()), frauds),
    )


def _compared(found: SegmentFigures, everyone: SegmentFigures) -> SegmentFigures:
    off = _ratio(found.in_the_large, everyone.in_the_large)
    return replace(
        found,
        expected_false_alerts=everyone.fpr * (found.rows - found.frauds),
        recall_ratio=_ratio(everyone.recall, found.recall) if found.recall else float("inf"),
        fpr_ratio=_ratio(found.fpr, everyone.fpr),
        calibration_ratio=max(off, 1 / off) if off > 0 else float("nan"),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def worst_of(segments: Sequence[SegmentFigures]) -> Iterator[Worst]:
    """Yield for each trait and measure the segment that is worst against all rows."""
    for trait in dict.fromkeys(found.trait for found in segments):
        inside = [found for found in segments if found.trait == trait]
        for measure, ratio_of in MEASURES.items():
            known = [found for found in inside if not found.is_thin(measure)]
            known = [found for found in known if not np.isnan(ratio_of(found))]
            if known:
                worst = max(known, key=ratio_of)
                yield Worst(trait, measure, worst.label, ratio_of(worst))
