"""What has happened on the line so far, as the demo's screen and summary show it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from fraudstream.names import word_of
from fraudstream.v1.decision_pb2 import ACTION_APPROVE, Action, Decision
from harness.traffic import RawRecord, Sent

# Screen percentiles look at this many latest decisions.
_RECENT: Final = 2_000
_RATE_SPAN_MS: Final = 5_000

TransactionKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of a run.

    Attributes:
        elapsed_s: Since the first record was sent.
        sent: Raw records by what they are.
        decided: Decisions by action name.
        per_s: Decisions per second over the last seconds.
        lag: Good transactions that were sent and are not decided yet.
        alerts: Alerts raised.
        dead_lettered: Records in the dead-letter topic.
        caught: Frauds decided other than approve.
        missed: Frauds approved.
        p50_ms: Median from append to the raw topic to the decision, over the last decisions.
        p99_ms: The same, 99th percentile.
    """

    elapsed_s: float
    sent: dict[str, int]
    decided: dict[str, int]
    per_s: float
    lag: int
    alerts: int
    dead_lettered: int
    caught: int
    missed: int
    p50_ms: float
    p99_ms: float


def latency_ms(decision: Decision) -> float:
    """Return the time from the append to the raw topic to the decision, milliseconds.

    The broker's clock has a grain of a millisecond.
    """
    return (decision.timings.scoring_ended_us - decision.timings.raw_appended_us) / 1_000


def action_name(action: Action) -> str:
    """Return an action's short name.

    >>> action_name(ACTION_APPROVE)
    'approve'
    """
    return word_of(Action, action)


class Tally:
    """Counts one run, record by record. Not for several threads."""

    def __init__(self, started_ms: int) -> None:
        self._started_ms = started_ms
        self._sent: Counter[str] = Counter()
        self._waiting: dict[TransactionKey, bool] = {}
        self._decided: Counter[str] = Counter()
        self._decided_at_ms: deque[int] = deque()
        self._caught: Counter[bool] = Counter()
        self._recent_ms: deque[float] = deque(maxlen=_RECENT)
        self.latencies_ms: list[float] = []
        self.alerts = 0
        self.dead_lettered = 0

    @property
    def sent(self) -> int:
        """Raw records sent."""
        return self._sent.total()

    @property
    def lag(self) -> int:
        """Good transactions that were sent and are not decided yet."""
        return len(self._waiting)

    def add_sent(self, record: RawRecord) -> None:
        """Count one raw record."""
        self._sent[record.sent.value] += 1
        if record.sent is Sent.FRESH:
            self._waiting[record.bank_id, record.transaction_id] = record.is_fraud

    def add_decision(self, decision: Decision, now_ms: int) -> bool:
        """Count a decision once. Returns whether it is the first one about a known fraud."""
        is_fraud = self._waiting.pop((decision.bank_id, decision.transaction_id), None)
        if is_fraud is None:
            return False
        self._decided[action_name(decision.action)] += 1
        self._decided_at_ms.append(now_ms)
        self._recent_ms.append(latency_ms(decision))
        self.latencies_ms.append(latency_ms(decision))
        if is_fraud:
            self._caught[decision.action != ACTION_APPROVE] += 1
        return is_fraud

    def snapshot(self, now_ms: int) -> Snapshot:
        """Return what the screen shows now."""
        while self._decided_at_ms and self._decided_at_ms[0] < now_ms - _RATE_SPAN_MS:
            self._decided_at_ms.popleft()
        span_ms = max(1_000, min(_RATE_SPAN_MS, now_ms - self._started_ms))
        p50_ms, p99_ms = percentiles(list(self._recent_ms))
        return Snapshot(
            elapsed_s=(now_ms - self._started_ms) / 1_000,
            sent=dict(self._sent),
            decided=dict(self._decided),
            per_s=len(self._decided_at_ms) * 1_000 / span_ms,
            lag=self.lag,
            alerts=self.alerts,
            dead_lettered=self.dead_lettered,
            caught=self._caught[True],
            missed=self._caught[False],
            p50_ms=p50_ms,
            p99_ms=p99_ms,
        )


def percentiles(latencies_ms: list[float]) -> tuple[float, float]:
    """Return median and 99th percentile, rounded to 0.1 ms; zeros where there is nothing yet.

    >>> percentiles([1.0, 2.0, 3.0])
    (2.0, 3.0)
    """
    if not latencies_ms:
        return 0.0, 0.0
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return round(float(p50), 1), round(float(p99), 1)
