"""Export of finished spans, with ids and times that are given, through OpenTelemetry's SDK."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from fraudstream.settings import TelemetrySettings
from fraudstream.telemetry.metrics import SPANS_DROPPED
from fraudstream.telemetry.trace_context import TraceContext

# About 1 KB a span: 4 MB at the most, and 4 s of a flagged share of 10 % at 10,000 rows/s.
QUEUE_SPANS: Final = 4096
BATCH_SPANS: Final = 512
SEND_EVERY_MS: Final = 500
# The exporter retries inside this bound; a collector that is gone costs only this thread.
SEND_TIMEOUT_S: Final = 2.0
CLOSE_WITHIN_S: Final = 3.0

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("fraudstream")


class _CountingExporter(SpanExporter):
    """Counts what leaves the queue, so that the queue's bound can be kept and seen outside it."""

    def __init__(self, wire: SpanExporter) -> None:
        """Send through `wire`."""
        self._wire = wire
        self.taken = 0
        self.give_up_at_s = math.inf

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; one that the collector did not take is counted as dropped."""
        self.taken += len(spans)
        is_late = time.monotonic() > self.give_up_at_s
        result = SpanExportResult.FAILURE if is_late else self._wire.export(spans)
        if result is not SpanExportResult.SUCCESS:
            SPANS_DROPPED.labels("export_failed").inc(len(spans))
        return result

    def shutdown(self) -> None:
        """Close the connection."""
        self._wire.shutdown()


class SpanSink:
    """A bounded queue of finished spans in front of one OTLP/HTTP endpoint."""

    def __init__(
        self, settings: TelemetrySettings, service: str, queue_spans: int = QUEUE_SPANS
    ) -> None:
        """Start the sending thread for `service`, to the endpoint of the settings."""
        wire = OTLPSpanExporter(
            endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces",
            certificate_file=str(settings.otlp_ca_file) if settings.otlp_ca_file else None,
            headers=settings.otlp_headers(),
            timeout=SEND_TIMEOUT_S,
        )
        self._exporter = _CountingExporter(wire)
        self._queue_spans = queue_spans
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=queue_spans,
            schedule_delay_millis=SEND_EVERY_MS,
            max_export_batch_size=min(BATCH_SPANS, queue_spans),
        )
        self._resource = Resource.create(
            {"service.name": f"fraudstream-{service}", "process.pid": os.getpid()}
        )
        self._put = 0

    def put(
        self,
        name: str,
        span: TraceContext,
        parent: TraceContext | None,
        times_us: tuple[int, int],
        attributes: Mapping[str, str | int | float | bool],
    ) -> None:
        """Queue a span that lasted from `times_us[0]` to `times_us[1]`; drop it if full."""
        if self._put - self._exporter.taken >= self._queue_spans:
            SPANS_DROPPED.labels("queue_full").inc()
            return
        self._put += 1
        self._processor.on_end(
            ReadableSpan(
                name,
                context=_span_context(span, is_remote=False),
                parent=_span_context(parent, is_remote=True) if parent else None,
                resource=self._resource,
                attributes=attributes,
                kind=SpanKind.CONSUMER,
                start_time=times_us[0] * 1000,
                end_time=times_us[1] * 1000,
                instrumentation_scope=_SCOPE,
            )
        )

    def close(self) -> None:
        """Send what is queued and stop, within `CLOSE_WITHIN_S` and one send time-out."""
        self._exporter.give_up_at_s = time.monotonic() + CLOSE_WITHIN_S
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # so in the SDK


def _span_context(context: TraceContext, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16), int(context.span_id, 16), is_remote, trace_flags=_SAMPLED
    )
