"""Which metrics each service exports, and their HTTP port.

A service exports what it has and no more: a gauge at 0 in a service that never sets it would
differ from the one that does. Counters with labels begin at 0 for every label value, because
`increase()` sees the step from 0 to 1 and not the step from nothing to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    start_http_server,
)
from prometheus_client.metrics import Counter, MetricWrapperBase

from fraudstream.reject_reasons import QuarantineReason
from fraudstream.runtime.free_address import check_free
from fraudstream.settings import TelemetrySettings
from fraudstream.telemetry import metrics as metrics
from fraudstream.topics import (
    ACCEPTED,
    ALERTS,
    ALL,
    BEHIND_INGEST,
    ENTITIES,
    LABELS,
    LABELS_RAW,
    RAW,
)
from fraudstream.transaction.actions import ACTION_WORDS

EXPORTED: Final[Mapping[str, Sequence[MetricWrapperBase]]] = {
    "ingest": (
        metrics.INGEST_RECORDS,
        metrics.BANK_LABELS,
        metrics.INGEST_UNKNOWN_FIELDS,
        metrics.LOST_OFFSETS,
        metrics.BATCH_ROWS,
        metrics.STAGE_SECONDS,
        metrics.SPANS_DROPPED,
    ),
    "features": (
        metrics.UNREADABLE_RECORDS,
        metrics.QUARANTINED,
        metrics.QUARANTINE_LOST,
        metrics.LOST_OFFSETS,
        metrics.FEATURES_ROWS,
        metrics.CORRUPT_STATES,
        metrics.SHARDS_REBUILT,
        metrics.BATCH_ROWS,
        metrics.STAGE_SECONDS,
        metrics.SPANS_DROPPED,
    ),
    "scoring": (
        metrics.UNREADABLE_RECORDS,
        metrics.QUARANTINED,
        metrics.QUARANTINE_LOST,
        metrics.DECISIONS,
        metrics.SCORED,
        metrics.RULE_SETS,
        metrics.RULE_SET_VERSION,
        metrics.RULE_FAULTS,
        metrics.FOREIGN_RATES,
        metrics.RESCORED,
        metrics.ALERTS,
        metrics.ENGINE_FALLBACK,
        metrics.ENGINE_CHANGES,
        metrics.MODEL_SWAPS,
        metrics.MODEL_REFUSED,
        metrics.MODEL_ENTRY,
        metrics.SHADOWED,
        metrics.OUTBOX_SWEPT,
        metrics.CALLS_REFUSED,
        metrics.ROWS_REFUSED,
        metrics.BATCH_ROWS,
        metrics.STAGE_SECONDS,
        metrics.SPANS_DROPPED,
    ),
    "console": (
        metrics.UNREADABLE_RECORDS,
        metrics.QUARANTINED,
        metrics.QUARANTINE_LOST,
        metrics.LOST_OFFSETS,
        metrics.CONSOLE_ALERTS,
        metrics.CONSOLE_FAILURES,
        metrics.CONSOLE_LAG,
        metrics.DECISION_FORKS,
        metrics.SPANS_DROPPED,
    ),
    "archive": (
        metrics.UNREADABLE_RECORDS,
        metrics.QUARANTINED,
        metrics.QUARANTINE_LOST,
        metrics.ARCHIVE_ROWS,
        metrics.ARCHIVE_FILES,
        metrics.ARCHIVE_LOST,
        metrics.ARCHIVE_LAG,
        metrics.DECISION_FORKS,
    ),
}
"""What each service's metrics port shows."""

_NOUNS: Final = ("accepted", "decisions", "shadows", "labels")
_ROLES: Final = ("ledger", "champion", "canary", "shadow")

LABEL_VALUES: Final[Mapping[Counter, Sequence[Sequence[str]]]] = {
    metrics.INGEST_RECORDS: (("accepted", "dead_lettered", "late"),),
    metrics.BANK_LABELS: (("settled", "refused"),),
    metrics.UNREADABLE_RECORDS: (tuple(topic.name for topic in ALL if topic is not RAW),),
    metrics.QUARANTINED: (
        (*(topic.name for topic in BEHIND_INGEST), "store"),
        tuple(reason.value for reason in QuarantineReason),
    ),
    metrics.QUARANTINE_LOST: (("queue_full", "not_sent", "too_many"),),
    metrics.LOST_OFFSETS: (
        tuple(topic.name for topic in (RAW, LABELS_RAW, ACCEPTED, ENTITIES, LABELS, ALERTS)),
    ),
    metrics.FEATURES_ROWS: (("scored", "duplicate", "conflict", "stale_shared"),),
    metrics.SHARDS_REBUILT: (
        (
            "store_empty",
            "another_primary",
            "log_made_anew",
            "log_widened",
            "log_cut",
            "stood_still",
        ),
        ("switched", "lost", "other", "failed"),
    ),
    metrics.DECISIONS: (tuple(ACTION_WORDS), ("false", "true")),
    metrics.SCORED: (("0.0", "0.005", "0.01", "0.03", "0.1", "0.3"),),
    metrics.RULE_SETS: (("served", "refused"),),
    metrics.RESCORED: (("same", "different", "unscorable"),),
    metrics.ENGINE_CHANGES: (
        (
            "not_opened",
            "opened",
            "gpu_memory",
            "gpu_failed",
            "gpu_absent",
            "library_absent",
            "engine_failed",
            "closed",
        ),
    ),
    metrics.MODEL_SWAPS: (_ROLES, ("served", "refused")),
    metrics.SHADOWED: (("scored", "dropped", "failed"),),
    metrics.CALLS_REFUSED: (
        ("unauthenticated", "permission_denied", "caller_full", "door_full", "message_late"),
    ),
    metrics.ROWS_REFUSED: (("another_bank", "pan_quota"),),
    metrics.CONSOLE_ALERTS: (
        ("stored", "rescored", "repeated", "conflicting", "refused", "unreadable"),
    ),
    metrics.CONSOLE_FAILURES: (("alerts", "labels"), ("database", "broker")),
    metrics.ARCHIVE_ROWS: (_NOUNS, ("written", "unreadable")),
    metrics.ARCHIVE_FILES: (_NOUNS,),
    metrics.ARCHIVE_LOST: (_NOUNS,),
    metrics.SPANS_DROPPED: (("queue_full", "export_failed"),),
}
"""Every value of every label of a counter, in the order of its label names."""


def registry_of(service: str) -> CollectorRegistry:
    """Return what `service` exports: its metrics, each label value at 0, and its process's own.

    >>> registry_of("ingest").get_sample_value("fraud_ingest_records_total", {"outcome": "late"})
    0.0
    >>> registry_of("ingest").get_sample_value("fraud_rule_set_version") is None
    True
    """
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    for metric in EXPORTED[service]:
        if isinstance(metric, Counter) and metric in LABEL_VALUES:
            for values in product(*LABEL_VALUES[metric]):
                metric.labels(*values)
        registry.register(metric)
    return registry


def check_metrics_port(service: str, port: int) -> str:
    """Return the host of the metrics port of `service`, which may listen there; port 0 is none.

    Raises:
        InvalidSettings: The address is in use, or is none of this machine.
    """
    host = TelemetrySettings.read().metrics_host
    if port:
        check_free(host, port, f"FRAUD_{service.upper()}_METRICS_PORT")
    return host


def serve_metrics(service: str, port: int) -> None:
    """Serve the metrics of `service` on `FRAUD_TELEMETRY_METRICS_HOST`:`port`; port 0 serves none.

    Raises:
        InvalidSettings: The address is in use, or is none of this machine.
    """
    host = check_metrics_port(service, port)
    if port:
        start_http_server(port, addr=host, registry=registry_of(service))
