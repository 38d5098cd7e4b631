"""Spans, metrics and trace context: the names, and the one way in which each leaves a process.

Budget on the hot path: a child context about 1 us, a counter about 1 us, a recorded span about
15 us. A span costs one comparison where no OTLP endpoint is set, and it never blocks its caller.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from fraudstream.settings import TelemetrySettings

TRACEPARENT: Final = "traceparent"
"""Name of the Kafka header and gRPC metadata key that carries a trace (W3C Trace Context)."""

SPAN_INGEST: Final = "ingest"
SPAN_FEATURES: Final = "features"
SPAN_SCORING: Final = "scoring"
SPAN_ALERT: Final = "alert"

INGEST_RECORDS: Final = Counter(
    "fraud_ingest_records",
    "Records read from the raw topic, by outcome: accepted, dead_lettered, late.",
    ("outcome",),
    unit="records",
)
FEATURES_ROWS: Final = Counter(
    "fraud_features_rows",
    "Accepted rows, by outcome: scored, duplicate, conflict, late, stale_shared.",
    ("outcome",),
    unit="rows",
)
CORRUPT_STATES: Final = Counter(
    "fraud_corrupt_states",
    "Card states with NaN or infinity, read as empty: the store or a writer damaged them.",
    unit="states",
)
BATCH_ROWS: Final = Histogram(
    "fraud_batch_rows",
    "Rows that one stage worked on together.",
    ("stage",),
    unit="rows",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048),
)
DECISIONS: Final = Counter(
    "fraud_decisions",
    "Decisions recorded, by action and by whether a stand-in made them.",
    ("action", "stand_in"),
    unit="decisions",
)
SCORED: Final = Counter(
    "fraud_scored_decisions",
    "Decisions made by the model, by the lower end of their score's bin; the runbook makes a PSI.",
    ("score_from",),
    unit="decisions",
)
RULE_SETS: Final = Counter(
    "fraud_rule_sets",
    "Published rule sets that scoring met, by outcome: served, refused (any is an alarm).",
    ("outcome",),
    unit="sets",
)
RULE_SET_VERSION: Final = Gauge("fraud_rule_set_version", "Version of the rule set that is served.")
RULE_FAULTS: Final = Counter(
    "fraud_rule_faults",
    "Conditions that could not be told, as by a division by zero: their rule did not fire.",
    unit="conditions",
)
STAGE_SECONDS: Final = Histogram(
    "fraud_stage_seconds",
    "Time that one batch spent in a stage.",
    ("stage",),
    unit="seconds",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
RESCORED: Final = Counter(
    "fraud_rescored_decisions",
    "Stand-in decisions that a model has scored since, by outcome: same, different, unscorable.",
    ("outcome",),
    unit="decisions",
)
ALERTS: Final = Counter("fraud_alerts", "Alerts published.", unit="alerts")
ENGINE_FALLBACK: Final = Gauge(
    "fraud_engine_fallback",
    "Models that the CPU engine serves instead of the GPU engine that was ordered; an alarm.",
)
ENGINE_CHANGES: Final = Counter(
    "fraud_engine_changes",
    "Changes of the engine that serves, by reason: not_opened, opened, gpu_memory, gpu_failed, "
    "gpu_absent, library_absent, engine_failed, closed.",
    ("reason",),
    unit="changes",
)
MODEL_SWAPS: Final = Counter(
    "fraud_model_swaps",
    "Models that came into service or were refused, by role: champion, canary, shadow.",
    ("role", "outcome"),
    unit="swaps",
)
MODEL_REFUSED: Final = Gauge(
    "fraud_model_refused",
    "1 while the ledger, or a model that it names for a role, is refused; the former serves on.",
    ("role",),
)
MODEL_ENTRY: Final = Gauge(
    "fraud_model_ledger_entry",
    "Ledger entry up to which models serve as ordered, as far as none was refused.",
)
SHADOWED: Final = Counter(
    "fraud_shadowed_decisions",
    "Decisions offered to challengers that decide nothing: scored, dropped (no time), failed.",
    ("outcome",),
    unit="decisions",
)
DECISION_FORKS: Final = Counter(
    "fraud_decision_forks",
    "Later decisions that differ from the first one of their identity; any is an alarm.",
    unit="forks",
)
OUTBOX_SWEPT: Final = Counter(
    "fraud_outbox_swept",
    "Outbox entries of a dead scorer that another one published.",
    unit="entries",
)
CALLS_REFUSED: Final = Counter(
    "fraud_calls_refused",
    "gRPC calls refused before they were parsed: unauthenticated, permission_denied.",
    ("reason",),
    unit="calls",
)
SHARDS_REBUILT: Final = Counter(
    "fraud_shards_rebuilt",
    "Shards rebuilt after a loss, by reason and outcome: switched, lost (again), other, failed.",
    ("reason", "outcome"),
    unit="shards",
)
CONSOLE_ALERTS: Final = Counter(
    "fraud_console_alerts",
    "Alerts read by the console, by outcome.",
    ("outcome",),
    unit="alerts",
)
ARCHIVE_ROWS: Final = Counter(
    "fraud_archive_rows",
    "Records archived, by noun and outcome: written, unreadable (left out, any is an alarm).",
    ("noun", "outcome"),
    unit="rows",
)
ARCHIVE_FILES: Final = Counter(
    "fraud_archive_files", "Files that the archive finished, by noun.", ("noun",), unit="files"
)
ARCHIVE_LOST: Final = Counter(
    "fraud_archive_lost_offsets",
    "Offsets that the log no longer had when the archive came to them; any is an alarm.",
    ("noun",),
    unit="offsets",
)
ARCHIVE_LAG: Final = Gauge(
    "fraud_archive_lag_records",
    "Records of this worker's partitions that it has not read yet, by noun.",
    ("noun",),
    unit="records",
)
# Of a command, not of a service: in a file of its own, so in no process' registry.
DRIFT_PSI: Final = Gauge(
    "fraud_drift_psi",
    "Population stability index of a feature or of the score, no unit; over 0.2 is an alarm.",
    ("quantity",),
    registry=None,
)
DRIFT_CALIBRATION: Final = Gauge(
    "fraud_drift_calibration_ratio",
    "Mean score / fraud share on matured labels; 1 is right.",
    unit="ratio",
    registry=None,
)
SPANS_DROPPED: Final = Counter(
    "fraud_spans_dropped",
    "Finished spans that were not exported, by reason: queue_full, export_failed.",
    ("reason",),
    unit="spans",
)

# Ids must differ, not be secret: the system's own random bytes cost twenty times as much a span.
_random_bits = random.getrandbits
_TRACEPARENT_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# Of a trace id, by which every sampler decides.
_LOW_BITS: Final = 2**64 - 1
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_LOWEST_FORBIDDEN_VERSION = "ff"


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where one span stands in its trace; travels as the `traceparent` header (W3C level 1).

    Attributes:
        trace_id: 32 lower-case hex digits, not all zero.
        span_id: 16 lower-case hex digits, not all zero.
        is_sampled: Whether the trace is kept even when nothing in it is flagged.
    """

    trace_id: str
    span_id: str
    is_sampled: bool

    @classmethod
    def start(cls, sample_ratio: float) -> Self:
        """Return the root of a new trace, sampled with probability `sample_ratio`.

        >>> TraceContext.start(1.0).is_sampled, TraceContext.start(0.0).is_sampled
        (True, False)
        """
        bits = _random_bits(192)
        ids = f"{bits:048x}"
        return cls(ids[:32], ids[32:], (bits >> 64 & _LOW_BITS) < sample_ratio * 2.0**64)

    @classmethod
    def parse(cls, traceparent: str | bytes | None) -> Self | None:
        """Return the context in a header, or None where it is absent or malformed.

        >>> TraceContext.parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").is_sampled
        True
        >>> TraceContext.parse(b"nonsense") is None
        True
        """
        if isinstance(traceparent, bytes):
            traceparent = traceparent.decode("ascii", "replace")
        found = _TRACEPARENT_FORM.fullmatch(traceparent) if traceparent else None
        if found is None:
            return None
        version, trace_id, span_id, flags, rest = found.groups()
        is_known_form = version != _LOWEST_FORBIDDEN_VERSION and (version != "00" or rest is None)
        if not is_known_form or trace_id == _NO_TRACE or span_id == _NO_SPAN:
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & 1))

    def child(self) -> TraceContext:
        """Return a new span's context in the same trace.

        >>> root = TraceContext.start(1.0)
        >>> root.child().trace_id == root.trace_id
        True
        """
        return TraceContext(self.trace_id, f"{_random_bits(64):016x}", self.is_sampled)

    def traceparent(self) -> str:
        """Return the header's value.

        >>> TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True).traceparent()
        '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
        """
        return f"00-{self.trace_id}-{self.span_id}-0{int(self.is_sampled)}"


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
            from fraudstream.otlp import SpanSink

            self._sink = SpanSink(settings.otlp_endpoint, service)

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


def serve_metrics(port: int) -> None:
    """Serve Prometheus metrics on `FRAUD_TELEMETRY_METRICS_HOST`:`port`; port 0 serves none."""
    if port:
        start_http_server(port, addr=TelemetrySettings.read().metrics_host)
