"""Compare what decisions recorded with what the logs give, and say so: the certificate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fraudstream.features.catalogue import (
    FEATURE_NAMES,
    FEATURE_SET_HASH,
    SEQUENCE_CHANNELS,
    SEQUENCE_LENGTH,
)
from fraudstream.parity.compare import Floats, differences
from fraudstream.parity.initial import InitialStates
from fraudstream.v1.decision_pb2 import Decision

_SINCE_PREVIOUS: Final = FEATURE_NAMES.index("card_seconds_since_previous")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One decision whose features are not what the log gives.

    Attributes:
        decision: The decision.
        values: Name, recorded and rebuilt value of everything that differs.
    """

    decision: Decision
    values: tuple[tuple[str, float, float], ...]


@dataclass(slots=True)
class Certificate:
    """What was compared, and how it came out.

    Attributes:
        stream: Decisions of the stream that were compared.
        door: Decisions by gRPC that were compared.
        exact: Decisions whose every bit is the same.
        stale: Decisions that were marked `shared_stale`.
        largest_difference: Largest difference of one value; infinity where one of two is missing.
        first: The first mismatch.
        differing: How often each value differed.
        unprovable: Why decisions could not be compared, with how many.
        known_before: Mismatches of cards that were known when the log begins.
        initial: States that were loaded beside the log.
    """

    stream: int = 0
    door: int = 0
    exact: int = 0
    stale: int = 0
    largest_difference: float = 0.0
    first: Mismatch | None = None
    differing: Counter[str] = field(default_factory=Counter)
    unprovable: Counter[str] = field(default_factory=Counter)
    known_before: int = 0
    initial: InitialStates = field(default_factory=InitialStates)

    @property
    def compared(self) -> int:
        """Decisions that were compared."""
        return self.stream + self.door

    @property
    def holds(self) -> bool:
        """Whether something was compared and all of it is the same."""
        return 0 < self.compared == self.exact

    def compare(self, decision: Decision, vector: Floats, sequence: Floats) -> None:
        """Compare one decision with its rebuilt features, float32 [F] and [T, C]."""
        if decision.HasField("coordinates"):
            self.stream += 1
        else:
            self.door += 1
        self.stale += decision.freshness.shared_stale
        values = differences(decision, vector, sequence)
        if values:
            self._add_mismatch(Mismatch(decision, values))
            is_first = bool(np.isnan(vector[_SINCE_PREVIOUS]))
            self.known_before += is_first and not decision.freshness.cold_start
        else:
            self.exact += 1

    def _add_mismatch(self, mismatch: Mismatch) -> None:
        self.differing.update({name for name, _, _ in mismatch.values})
        for _, one, other in mismatch.values:
            gap = abs(one - other)
            self.largest_difference = max(
                self.largest_difference, float("inf") if np.isnan(gap) else gap
            )
        if self.first is None:
            self.first = mismatch

    def text(self) -> str:
        """Return the certificate as it is printed."""
        lines = [
            f"feature set {FEATURE_SET_HASH}, {len(FEATURE_NAMES)} features and"
            f" {SEQUENCE_LENGTH} x {len(SEQUENCE_CHANNELS)} of the sequence",
            f"compared            {self.compared}"
            f" ({self.stream} of the stream, {self.door} by gRPC)",
            f"identical           {self.exact}",
            f"largest difference  {self.largest_difference:g}",
            f"shared_stale        {self.stale}",
        ]
        if self.initial.number:
            lines.append(
                f"loaded past         {self.initial.number} states, sha256 {self.initial.sha256}"
            )
        lines += [f"not comparable      {n}: {why}" for why, n in self.unprovable.most_common()]
        if self.first is not None:
            lines += _mismatch_lines(self.first)
            common = ", ".join(f"{name} {n}" for name, n in self.differing.most_common(8))
            lines.append(f"differing most      {common}")
        if self.known_before:
            lines.append(
                f"known before        {self.known_before} mismatches are of cards that were known"
                " before the log begins: name a past that was loaded beside it by --past FILE"
            )
        return "\n".join([*lines, self._outcome()])

    def _outcome(self) -> str:
        if not self.compared:
            return "nothing to compare: no decision of this span can be proven"
        return "parity holds" if self.holds else "PARITY DOES NOT HOLD"


def _mismatch_lines(mismatch: Mismatch) -> list[str]:
    decision = mismatch.decision
    at = decision.coordinates
    where = f"partition {at.partition} offset {at.offset}"
    if not decision.HasField("coordinates"):
        where = f"by gRPC at applied offset {decision.freshness.applied_offset}"
    lines = [
        f"first mismatch      decision {decision.decision_id}, {where},"
        f" event time {decision.event_time_ms}"
    ]
    lines += [
        f"    {name:32} recorded {one!r:>24} rebuilt {other!r:>24}"
        for name, one, other in mismatch.values[:12]
    ]
    return lines
