"""Trace context in headers, sampling, and telemetry that is switched off."""

import pytest

from fraudstream.settings import TelemetrySettings
from fraudstream.telemetry.spans import Telemetry
from fraudstream.telemetry.trace_context import TraceContext

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"


def test_context_survives_the_header() -> None:
    """What is written into a header is what the next service reads from it."""
    context = TraceContext.start(1.0)

    assert TraceContext.parse(context.traceparent().encode()) == context


def test_child_stays_in_the_trace_with_a_span_of_its_own() -> None:
    """A child shares trace and sampling, never the span."""
    root = TraceContext.start(0.0)

    child = root.child()

    assert (child.trace_id, child.is_sampled) == (root.trace_id, root.is_sampled)
    assert child.span_id != root.span_id


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"00-{TRACE_ID}-{SPAN_ID}-01\n",
        f"00-{TRACE_ID[:-1]}é-{SPAN_ID}-01".encode(),
        b"\xff\xfe",
    ],
)
def test_malformed_header_starts_no_trace(header: str | bytes | None) -> None:
    """W3C Trace Context, 3.2.2.3: what does not parse is ignored."""
    assert TraceContext.parse(header) is None


def test_later_version_is_read_by_its_first_four_fields() -> None:
    """W3C Trace Context, 4.3: a higher version may have more fields."""
    context = TraceContext.parse(f"01-{TRACE_ID}-{SPAN_ID}-03-extra")

    assert context == TraceContext(TRACE_ID, SPAN_ID, is_sampled=True)


def test_only_the_lowest_flag_samples() -> None:
    """Other flag bits say nothing about sampling."""
    context = TraceContext.parse(f"00-{TRACE_ID}-{SPAN_ID}-02")

    assert context is not None
    assert not context.is_sampled


def test_sample_ratio_is_the_share_of_sampled_roots() -> None:
    """Of 4,000 roots at one quarter, between 870 and 1,130 are sampled (five deviations)."""
    sampled = sum(TraceContext.start(0.25).is_sampled for _ in range(4000))

    assert 870 < sampled < 1130


def test_without_endpoint_spans_go_nowhere() -> None:
    """No endpoint, no thread and no queue."""
    telemetry = Telemetry(TelemetrySettings(otlp_endpoint=""), "scoring")
    root = TraceContext.start(1.0)

    telemetry.record_span("scoring", root.child(), root, 1, 2, {"fraud.action": "review"})
    telemetry.close()

    assert not telemetry.is_enabled
