"""Calls, when they are due, what became of them, and what many of them say together. Pure.

Latency is counted from when a call was due, not from when it was sent: a generator that falls
behind, or waits for a full server, would otherwise hide the wait (coordinated omission).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import grpc
import numpy as np
import numpy.typing as npt

from fraudstream.v1.decision_pb2 import Decision

_NS_PER_MS: Final = 1e6
_NS_PER_S: Final = 1e9
_OK: Final = grpc.StatusCode.OK.value[0]
_REFUSED: Final = (
    grpc.StatusCode.RESOURCE_EXHAUSTED.value[0],  # by the service
    grpc.StatusCode.CANCELLED.value[0],  # by gRPC, before the service took the call
)
_DEADLINE: Final = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


def due_times_ns(rate_per_s: float, seconds: float, seed: int) -> npt.NDArray[np.int64]:
    """Return when each call of a run is due, nanoseconds from its begin, int64 [N], rising.

    They come at independent uniform times: that is what a Poisson process is, given how many came.

    >>> due_times_ns(4.0, 1.0, seed=1).size
    4
    """
    count = max(1, round(rate_per_s * seconds))
    times = np.random.default_rng(seed).uniform(0.0, seconds * _NS_PER_S, count)
    return np.sort(times).astype(np.int64)


class Outcome(StrEnum):
    """What became of a call."""

    DECIDED = "decided"
    STAND_IN = "stand_in"
    REFUSED = "refused"
    LATE = "late"
    FAILED = "failed"


_NOT_ANSWERED: Final = (Outcome.REFUSED, Outcome.FAILED)


@dataclass(slots=True)
class Call:
    """One call on its way. Times are of the monotonic clock, nanoseconds, 0 for not yet.

    It has no status where no answer came, and no stream before it is sent.
    """

    message: bytes
    due_ns: int = 0
    sent_ns: int = 0
    ended_ns: int = 0
    status: int | None = None
    answer: bytes = b""
    stream: int = 0

    @property
    def latency_ms(self) -> float:
        """Time from when it was due to its end."""
        return (self.ended_ns - self.due_ns) / _NS_PER_MS

    def outcome(self, deadline_ms: float) -> Outcome:
        """Return what became of it; an answer after the deadline helps nobody."""
        if self.status in _REFUSED:
            return Outcome.REFUSED
        if self.status in (None, _DEADLINE) or self.latency_ms > deadline_ms:
            return Outcome.LATE
        if self.status != _OK:
            return Outcome.FAILED
        is_stand_in = Decision.FromString(self.answer).stand_in
        return Outcome.STAND_IN if is_stand_in else Outcome.DECIDED


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile; 0 for no values.

    >>> percentile([3.0, 1.0, 2.0], 50), percentile([], 99)
    (2.0, 0.0)
    """
    return float(np.percentile(values, percent)) if values else 0.0


def summarise(calls: Sequence[Call], deadline_ms: float = float("inf")) -> dict[str, float]:
    """Return what ended calls say together, by name; later than the deadline is late.

    Latencies are of all but the refused and failed; a late call counts until it was given up. With
    a lag over a few milliseconds the generator itself was too slow.
    """
    outcomes = [call.outcome(deadline_ms) for call in calls]
    counts = Counter(outcomes)
    begun_ns, ended_ns = min(call.due_ns for call in calls), max(call.ended_ns for call in calls)
    wall_s = (ended_ns - begun_ns) / _NS_PER_S
    by_outcome = list(zip(calls, outcomes, strict=True))
    answered = [call.latency_ms for call, how in by_outcome if how not in _NOT_ANSWERED]
    refused = [call.latency_ms for call, how in by_outcome if how is Outcome.REFUSED]
    lags = [(call.sent_ns - call.due_ns) / _NS_PER_MS for call in calls if call.sent_ns]
    return {
        **{outcome.value: float(counts[outcome]) for outcome in Outcome},
        "calls": float(len(calls)),
        "calls_per_s": len(calls) / wall_s,
        "decided_per_s": counts[Outcome.DECIDED] / wall_s,
        "wall_s": wall_s,
        "p50_ms": percentile(answered, 50),
        "p99_ms": percentile(answered, 99),
        "refused_p50_ms": percentile(refused, 50),
        "refused_p99_ms": percentile(refused, 99),
        "lag_p99_ms": percentile(lags, 99),
    }
