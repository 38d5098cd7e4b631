"""What happens to decisions after the answer: they are counted, traced and shadowed."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence

from prometheus_client import Counter

from fraudstream.models.psi import SCORE_EDGES
from fraudstream.names import word_of
from fraudstream.telemetry.metrics import BATCH_ROWS, DECISIONS, SCORED, STAGE_SECONDS
from fraudstream.telemetry.spans import SPAN_SCORING, Telemetry
from fraudstream.v1.decision_pb2 import Action, Decision
from services.scoring.background.shadow_scorer import ShadowScorer
from services.scoring.decision.message import Subject


class Observer:
    """Metrics and spans of one door, and its way to the challengers.

    Args:
        telemetry: Takes spans.
        shadows: Takes what was decided, for the models that decide nothing.
        stage: Names the door in metrics.
    """

    def __init__(self, telemetry: Telemetry, shadows: ShadowScorer, stage: str) -> None:
        self._telemetry = telemetry
        self._shadows = shadows
        self._rows = BATCH_ROWS.labels(stage)
        self._seconds = STAGE_SECONDS.labels(stage)
        # A labelled counter is looked up by a lock and a dictionary of strings; this once.
        self._counters: dict[tuple[int, bool], Counter] = {
            (action, is_stand_in): DECISIONS.labels(
                word_of(Action, action), str(is_stand_in).lower()
            )
            for action in Action.values()
            for is_stand_in in (False, True)
        }

        self._scored = [SCORED.labels(str(edge)) for edge in (0.0, *SCORE_EDGES)]

    def observe(
        self,
        decided: Sequence[tuple[Subject, Decision]],
        rows: int,
        started_us: int,
        ended_us: int,
    ) -> None:
        """Take what a door has recorded of a call or round with so many rows."""
        self.count([decision for _, decision in decided])
        if self._telemetry.is_enabled:  # when the event loop is next free
            asyncio.get_running_loop().call_soon(self._write_spans, decided, started_us, ended_us)
        self._shadows.add(decided)
        self._rows.observe(rows)
        self._seconds.observe((ended_us - started_us) / 1e6)

    def count(self, decisions: Sequence[Decision]) -> None:
        """Count decisions that were recorded."""
        # By hand: a `collections.Counter` costs as much as counting a dozen.
        by_kind: dict[tuple[int, bool], int] = {}
        by_score: dict[int, int] = {}
        for decision in decisions:
            kind = decision.action, decision.stand_in
            by_kind[kind] = by_kind.get(kind, 0) + 1
            if not decision.stand_in:
                bucket = bisect_right(SCORE_EDGES, decision.score)
                by_score[bucket] = by_score.get(bucket, 0) + 1
        for counted, count in by_kind.items():
            self._counters[counted].inc(count)
        for bucket, count in by_score.items():
            self._scored[bucket].inc(count)

    def _write_spans(
        self, rows: Sequence[tuple[Subject, Decision]], started_us: int, ended_us: int
    ) -> None:
        """Write the spans of sampled and of flagged rows."""
        for subject, decision in rows:
            if not (subject.span.is_sampled or decision.action != Action.ACTION_APPROVE):
                continue
            attributes: dict[str, str | int | float | bool] = {
                "fraud.decision_id": decision.decision_id,
                "fraud.action": word_of(Action, decision.action),
                "fraud.score": decision.score,
                "fraud.stand_in": decision.stand_in,
                "fraud.batch_bucket": decision.batch_bucket,
                "fraud.engine_us": decision.timings.engine_ended_us
                - decision.timings.engine_started_us,
            }
            self._telemetry.record_span(
                SPAN_SCORING, subject.span, subject.parent, started_us, ended_us, attributes
            )
