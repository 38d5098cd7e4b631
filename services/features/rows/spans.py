"""Spans of the features stage, written after the state write."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fraudstream.telemetry.metrics import STAGE_SECONDS
from fraudstream.telemetry.spans import SPAN_FEATURES, Telemetry
from fraudstream.v1.decision_pb2 import Action, Decision
from services.features.rows.accepted_rows import AcceptedRow


class SpanWriter:
    """Writes one span a sampled or flagged row."""

    def __init__(self, telemetry: Telemetry, clock_us: Callable[[], int]) -> None:
        """Keep the way out."""
        self._telemetry = telemetry
        self._clock_us = clock_us

    def write(
        self, rows: Sequence[AcceptedRow], decisions: Sequence[Decision], started_us: int
    ) -> None:
        """Write the spans of one shard's batch and observe how long it took."""
        ended_us = self._clock_us()
        STAGE_SECONDS.labels("features").observe((ended_us - started_us) / 1e6)
        if not self._telemetry.is_enabled:
            return
        for row, decision in zip(rows, decisions, strict=True):
            if row.trace.is_sampled or decision.action != Action.ACTION_APPROVE:
                self._telemetry.record_span(
                    SPAN_FEATURES,
                    row.trace,
                    row.parent,
                    started_us,
                    ended_us,
                    {
                        "messaging.kafka.partition": row.record.partition,
                        "messaging.kafka.offset": row.record.offset,
                        "fraud.decision_id": decision.decision_id,
                    },
                )
