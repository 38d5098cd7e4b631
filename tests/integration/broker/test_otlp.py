"""Spans over the wire: what a collector receives is what the services recorded."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Iterator

import pytest

from fraudstream.settings import TelemetrySettings
from fraudstream.telemetry import span_export
from fraudstream.telemetry.exported_metrics import serve_metrics
from fraudstream.telemetry.metrics import INGEST_RECORDS, SPANS_DROPPED
from fraudstream.telemetry.spans import Telemetry
from fraudstream.telemetry.trace_context import TraceContext
from tests.e2e.collector import FakeCollector, running_collector


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    """A collector on a port of its own."""
    with running_collector() as running:
        yield running


def dropped(reason: str) -> float:
    """Return how many spans were dropped for a reason until now."""
    return next(
        sample.value
        for metric in SPANS_DROPPED.collect()
        for sample in metric.samples
        if sample.labels.get("reason") == reason and sample.name.endswith("_total")
    )


def test_trace_of_two_spans_arrives_with_its_ids_and_times(collector: FakeCollector) -> None:
    """Ids, parent, times in nanoseconds, attributes and service name are as given."""
    telemetry = Telemetry(TelemetrySettings(otlp_endpoint=collector.endpoint), "scoring")
    root = TraceContext.start(1.0)
    child = root.child()

    telemetry.record_span("ingest", root, None, 1_000_000, 1_000_250, {})
    telemetry.record_span("scoring", child, root, 1_000_300, 1_002_000, {"fraud.score": 0.5})
    telemetry.close()

    spans = collector.trace(root.trace_id)
    assert set(spans) == {"ingest", "scoring"}
    assert spans["ingest"].parent_span_id == b""
    scoring = spans["scoring"]
    assert scoring.trace_id.hex() == root.trace_id
    assert scoring.span_id.hex() == child.span_id
    assert scoring.parent_span_id.hex() == root.span_id
    assert scoring.start_time_unix_nano == 1_000_300_000
    assert scoring.end_time_unix_nano == 1_002_000_000
    assert {a.key: a.value.double_value for a in scoring.attributes} == {"fraud.score": 0.5}


def test_service_name_travels_as_a_resource(collector: FakeCollector) -> None:
    """A collector tells the services apart by `service.name`."""
    telemetry = Telemetry(TelemetrySettings(otlp_endpoint=collector.endpoint), "features")

    telemetry.record_span("features", TraceContext.start(1.0), None, 1, 2, {})
    telemetry.close()

    assert collector.services == {"fraudstream-features"}


def test_flagged_span_of_an_unsampled_trace_is_sent(collector: FakeCollector) -> None:
    """The caller decides: a span that it records is sent whatever the trace's flag says."""
    telemetry = Telemetry(TelemetrySettings(otlp_endpoint=collector.endpoint), "scoring")

    unsampled = TraceContext.start(0.0)

    telemetry.record_span("scoring", unsampled, None, 1, 2, {})
    telemetry.close()

    assert set(collector.trace(unsampled.trace_id)) == {"scoring"}


def test_full_queue_drops_and_counts_without_waiting(collector: FakeCollector) -> None:
    """A collector that hangs costs spans, never time on the hot path."""
    collector.gate.clear()
    sink = span_export.SpanSink(
        TelemetrySettings(otlp_endpoint=collector.endpoint), "scoring", queue_spans=8
    )
    SPANS_DROPPED.labels("queue_full")
    before = dropped("queue_full")
    started = time.monotonic()

    for _ in range(200):
        sink.put("scoring", TraceContext.start(1.0), None, (1, 2), {})
    took_s = time.monotonic() - started

    collector.gate.set()
    sink.close()
    assert dropped("queue_full") - before >= 200 - 2 * 8
    assert took_s < 1.0


def test_close_is_bounded_where_the_collector_is_gone() -> None:
    """A service stops in time though nobody takes its spans; they are counted."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    telemetry = Telemetry(TelemetrySettings(otlp_endpoint=f"http://127.0.0.1:{port}"), "scoring")
    SPANS_DROPPED.labels("export_failed")
    before = dropped("export_failed")
    started = time.monotonic()

    telemetry.record_span("scoring", TraceContext.start(1.0), None, 1, 2, {})
    telemetry.close()

    assert time.monotonic() - started < span_export.CLOSE_WITHIN_S + span_export.SEND_TIMEOUT_S + 1
    assert dropped("export_failed") - before == 1


def test_metrics_are_served_on_loopback() -> None:
    """A service's port answers in Prometheus' text form, with units in the names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    INGEST_RECORDS.labels("accepted").inc()

    serve_metrics("ingest", port)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert 'fraud_ingest_records_total{outcome="accepted"}' in text
    assert "fraud_stage_seconds" in text
