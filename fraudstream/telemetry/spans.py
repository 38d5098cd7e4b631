"""Spans of the services, with times that are given; about 15 us each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fraudstream.settings import TelemetrySettings
from fraudstream.telemetry.trace_context import TraceContext

SPAN_INGEST: Final = "ingest"
SPAN_FEATURES: Final = "features"
SPAN_SCORING: Final = "scoring"
SPAN_ALERT: Final = "alert"


class Telemetry:
    """Sends a service's finished spans to the OTLP endpoint, in a thread of its own.

    The caller decides which spans are worth it (sampled, or flagged). At most `QUEUE_SPANS` wait;
    what does not fit is dropped and counted in `SPANS_DROPPED`.
    """

    def __init__(self, settings: TelemetrySettings, service: str) -> None:
        """Open the way out for spans of `service`, if the settings name an endpoint."""
        self._sink = None
        if settings.otlp_endpoint:
            # Half a second of imports that only a deployment with an endpoint pays.
            from fraudstream.telemetry.span_export import SpanSink

            self._sink = SpanSink(settings, service)

    @property
    def is_enabled(self) -> bool:
        """Whether spans go anywhere: a caller may skip building attributes where not."""
        return self._sink is not None

    def record_span(
        self,
        name: str,
        span: TraceContext,
        parent: TraceContext | None,
        started_us: int,
        ended_us: int,
        attributes: Mapping[str, str | int | float | bool],
    ) -> None:
        """Queue a finished span, without waiting; times are epoch microseconds."""
        if self._sink is not None:
            self._sink.put(name, span, parent, (started_us, ended_us), attributes)

    def close(self) -> None:
        """Send what is queued, for a bounded time, and stop the thread."""
        if self._sink is not None:
            self._sink.close()
